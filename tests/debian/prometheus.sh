#!/bin/bash
# Runs the tests of rules, exposition and scrapes with this system's Prometheus and with Debian sid's Prometheus 3. The stack
# of `make stack` starts with both.
set -euo pipefail
cd "$(dirname "$0")/../.."
tests=(
    tests/stack/test_rules.py tests/stack/test_scrapes.py tests/storage/test_stack.py
    tests/unit/registry/scrape/test_promtool.py
)
pytest=(.venv/bin/pytest "--numprocesses=${WORKERS:-auto}" --dist=worksteal "${tests[@]}")
promtool --version | head -n 1
"${pytest[@]}"
why=$(tests/debian/obstacle.sh)
if [ -n "$why" ]; then
    echo "skipped: Prometheus 3, since $why"
    exit
fi
tests/debian/inside.sh --prometheus sid promtool --version | head -n 1
exec tests/debian/inside.sh --prometheus sid "${pytest[@]}"
