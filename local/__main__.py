"""`python -m local up | down | status | logs | restart | kill | stop-part | start-part | clean`."""

import sys

if not (3, 11) <= sys.version_info < (3, 14):
    sys.exit(f"Tidewheel needs Python 3.11 to 3.13, this is {sys.version.split()[0]}")

try:
    from local.commands import parser
    from local.daemon import run_daemon
    from local.errors import CannotStart
    from local.paths import Places, default_places
except ModuleNotFoundError as missing:
    sys.exit(f"the Python package {missing.name} is missing; install everything with: make env")


def main() -> int:
    arguments = parser(default_places().folder).parse_args()
    places = Places(arguments.folder.resolve())
    try:
        if arguments.verb == "supervise":
            run_daemon(places, system_postgres=arguments.system_postgres)
            return 0
        return int(arguments.run(places, arguments))
    except (CannotStart, OSError) as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
