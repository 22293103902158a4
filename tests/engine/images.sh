#!/bin/bash
# Images with the names that docker/ pins, made from Debian 13's packages, since no registry of images is asked.
#
#   images.sh DIR     DIR holds an engine that is up, and the checkout in DIR/checkout
set -euo pipefail
here=$(dirname "$(readlink -f "$0")") dir=$1
packages=ca-certificates,gcc,libc6-dev,python3,python3-dev,python3-venv,python3-pip,rabbitmq-server,redis-server,postgresql-17,prometheus
packages+=,prometheus-alertmanager,prometheus-node-exporter,victoria-metrics,gosu,busybox,hostname,netbase
base=$dir/base.tar context=$dir/images docker=$dir/checkout/docker

engine() { "$here/engine.sh" "$dir" in "$@"; }

"$here/../debian/bootstrap.sh" trixie "$base" "$packages"
mkdir -p "$context/wheels"
cp "$here"/images/* "$context"
python3 -m pip download --quiet --disable-pip-version-check --python-version 3.13 --only-binary=:all: --require-hashes \
    --dest "$context/wheels" --requirement "$docker/requirements.txt"
python3 -m pip download --quiet --disable-pip-version-check --python-version 3.13 --only-binary=:all: --require-hashes \
    --dest "$context/wheels" --requirement "$docker/build-requirements.txt"
held=$(engine docker image inspect --format '{{.Config.Labels.packages}}' standin-base 2>/dev/null) || held=
if [ "$held" != "$packages" ]; then
    engine docker import --change 'CMD ["bash"]' --change "LABEL packages=$packages" "/srv/${base##*/}" standin-base >/dev/null
fi
{
    sed -n 's/^ *image: \([a-z].*\)/\1/p' "$docker/compose.yaml" | grep -v '^busmon:'
    sed -n 's/^FROM \([^ ]*\).*/\1/p' "$docker/Dockerfile"
} | sort -u | while read -r name; do
    target=${name%%:*}
    engine docker build --quiet --network none --target "${target##*/}" --tag "$name" "/srv/${context##*/}" >/dev/null
    echo "$name"
done
