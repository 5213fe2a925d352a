#!/usr/bin/env bash
# One resolution for everything, then every member's lock cut from it. They hold names, versions
# and hashes, and no address. Usage: lock.sh [PACKAGE to upgrade]
set -euo pipefail
upgrade=()
[ -n "${1:-}" ] && upgrade=(--upgrade-package "$1")
compile=(.venv/bin/uv pip compile --quiet --universal --fork-strategy fewest --generate-hashes --no-header
    --python-version 3.11)
"${compile[@]}" "${upgrade[@]}" --all-extras --group dev pyproject.toml ./*/pyproject.toml \
    services/*/pyproject.toml -o constraints.lock
"${compile[@]}" -c constraints.lock client/pyproject.toml -o client/requirements.lock
for project in services/*/pyproject.toml; do
    "${compile[@]}" -c constraints.lock shared/pyproject.toml "$project" -o "${project%pyproject.toml}requirements.lock"
    echo "${project%pyproject.toml}requirements.lock"
done
