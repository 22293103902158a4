#!/bin/bash
# Runs the unit and broker suites with another Python: this system's, pyenv's, that of a Debian release, with its RabbitMQ,
# or else the build that uv fetches from GitHub. The build and its packages are kept in the user's cache.
#
#   python.sh VERSION [PYTEST ARGUMENT…]
set -euo pipefail
cd "$(dirname "$0")/../.."
version=$1
shift
cache=${XDG_CACHE_HOME:-$HOME/.cache}/busmon
venv=$cache/python/$version
run=()

find_python() {
    local python
    for python in "python$version" "$HOME/.pyenv/versions/$version".*/bin/python; do
        if "$python" -c 'import ensurepip, sqlite3, venv' 2>/dev/null; then
            echo "$python"
            return
        fi
    done
    return 1
}

fetch_python() {
    local log
    log=$(mktemp "${TMPDIR:-/tmp}/busmon-uv.XXXXXXXX")
    export UV_PYTHON_INSTALL_DIR=$cache/python/builds
    if .venv/bin/uv python install --no-bin "$version" >"$log" 2>&1; then
        .venv/bin/uv python find --managed-python "$version"
        rm "$log"
    else
        echo "skipped: Python $version isn't installed, and uv can't fetch it: $(grep -m 1 "^error" "$log") (whole log: $log)" >&2
        return 1
    fi
}

if ! python=$(find_python); then
    case $version in
    3.13) release=trixie ;;
    3.14) release=sid ;;
    *) release= ;;
    esac
    if [ -n "$release" ]; then
        why=$(tests/debian/obstacle.sh)
        if [ -n "$why" ]; then
            echo "skipped: Python $version isn't installed, and $why"
            exit
        fi
        python=/usr/bin/python3
        run=(tests/debian/inside.sh "$release")
        "${run[@]}" true
    else
        python=$(fetch_python) || exit 0
    fi
fi
fingerprint=$(pwd -P && sha256sum <pyproject.toml && "${run[@]}" "$python" --version)
if [ "$(cat "$venv/.set-up" 2>/dev/null)" != "$fingerprint" ]; then
    mkdir -p "$cache/python"
    "${run[@]}" "$python" -m venv --clear "$venv"
    "${run[@]}" "$venv/bin/python" -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
    "${run[@]}" "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable '.[fleet]' --group dev
    echo "$fingerprint" >"$venv/.set-up"
fi
BUSMON_COMPILE=required "${run[@]}" "$venv/bin/python" -m hatchling build --target wheel:editable --hooks-only
echo "$("${run[@]}" "$venv/bin/python" --version)${release:+ of Debian $release}"
if [ $# = 0 ]; then set -- tests/unit tests/broker; fi
exec "${run[@]}" "$venv/bin/pytest" "--numprocesses=${WORKERS:-auto}" --dist=worksteal "$@"
