#!/usr/bin/env bash
# Prove that a member runs alone: its own lock, its own folder and shared/, nothing else.
# Usage: isolated.sh services/NAME | client
set -euo pipefail
member=$1 name=$(basename "$1")
folder=.venvs/$name
if [ ! -e "$folder/.ready" ] || [ "$member/requirements.lock" -nt "$folder/.ready" ]; then
    mkdir -p .venvs
    bash local/environment.sh "$folder" "$member/requirements.lock"
fi
tree=$folder/tree
rm -rf "$tree"
mkdir -p "$tree"
copy() { tar --exclude=__pycache__ -cf - "$@" | tar -xf - -C "$tree"; }
copy shared
if [ "$member" = client ]; then
    copy client
    (cd "$tree" && PYTHONPATH=client:. "../bin/python" -m tidewheel.main --help >/dev/null)
else
    copy services/__init__.py "$member"
    (cd "$tree" && PYTHONPATH=. "../bin/python" -c "import services.$name.app")
fi
echo "$name runs alone"
