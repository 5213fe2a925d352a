#!/usr/bin/env bash
# Make a virtual environment that holds exactly what a hashed lock names.
# Usage: environment.sh FOLDER LOCK
set -euo pipefail
folder=$1 lock=$2

find_python() {
    local name
    for name in ${PYTHON:-} python3.12 python3.13 python3.11 python3; do
        if command -v "$name" >/dev/null 2>&1 &&
            "$name" -c 'import sys; raise SystemExit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
            echo "$name"
            return
        fi
    done
    echo "Python 3.11, 3.12 or 3.13 is missing: install one, or name it with PYTHON=/path/to/python" >&2
    return 1
}

if [ ! -x "$folder/bin/python" ]; then
    python=$(find_python)
    echo "creating $folder with $("$python" --version)"
    "$python" -m venv "$folder" || {
        echo "the venv module of $python is missing: install it (on Debian: python3-venv)" >&2
        exit 1
    }
fi
installer=.venv/bin/uv
if [ ! -x "$installer" ]; then
    # The installer comes from the same lock, by its hash.
    pins=$(mktemp)
    trap 'rm -f "$pins"' EXIT
    awk '/^uv==/{found=1} found{print} found && !/\\$/{exit}' constraints.lock >"$pins"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$pins" || {
        echo "packages cannot be fetched: check the network, then run the same command again" >&2
        exit 1
    }
    installer=$folder/bin/uv
fi
echo "installing $(grep -cE '^[a-z0-9].*==' "$lock") packages into $folder (once)"
started=$SECONDS
UV_LINK_MODE=${UV_LINK_MODE:-hardlink} "$installer" pip sync --quiet --require-hashes --python "$folder/bin/python" "$lock" || {
    echo "packages cannot be installed: read the lines above, then run the same command again" >&2
    exit 1
}
touch "$folder/.ready"
echo "$folder is ready after $((SECONDS - started)) s"
