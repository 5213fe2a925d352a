"""`python -m local.demo`: exit code 0 only if every promise held."""

import signal
import sys
from importlib.util import find_spec

from local.errors import CannotStart
from local.paths import CHECKOUT


def main() -> int:
    # Whoever ends it politely has its system ended, too, as by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if find_spec("tidewheel") is None:
        sys.path.insert(0, str(CHECKOUT / "client"))
    # Only now, because these import the client.
    from local.demo.story import tell_story  # noqa: PLC0415

    try:
        return tell_story()
    except CannotStart as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
