#!/bin/sh
# The `tidewheel` command of this checkout; `make env` puts it at .venv/bin/tidewheel.
home=$(cd "$(dirname "$0")/../.." && pwd) || exit 70
PYTHONPATH=$home:$home/client${PYTHONPATH:+:$PYTHONPATH} exec "$home/.venv/bin/python" -m tidewheel.main "$@"
