#!/bin/bash
# Runs the suites that speak to a broker against the RabbitMQ of another Debian release.
#
#   rabbitmq.sh 4.0|4.3 [PYTEST ARGUMENT…]     4.0 is Debian 13's; 4.3 stands for whatever sid has
set -euo pipefail
cd "$(dirname "$0")/../.."
case $1 in
4.0) release=trixie ;;
4.3) release=sid ;;
*)
    echo "RABBITMQ=$1: expected 4.0 or 4.3" >&2
    exit 2
    ;;
esac
shift
why=$(tests/debian/obstacle.sh)
if [ -n "$why" ]; then
    echo "skipped: $why"
    exit
fi
tests/debian/inside.sh "$release" dpkg-query --showformat "RabbitMQ \${Version} of Debian $release\n" --show rabbitmq-server
if [ $# = 0 ]; then set -- tests/broker tests/fleet; fi
exec tests/debian/inside.sh --rabbitmq "$release" .venv/bin/pytest "--numprocesses=${WORKERS:-auto}" --dist=worksteal "$@"
