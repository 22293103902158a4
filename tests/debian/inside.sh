#!/bin/bash
# Runs a command with the programs of another Debian release, which is unpacked once and kept in the user's cache.
#
#   inside.sh RELEASE COMMAND…                the command is the release's own: a chroot with this system's network,
#                                             processes, temporary directory and checkout
#   inside.sh --rabbitmq RELEASE COMMAND…     the command is this system's, but for RabbitMQ and Erlang
#   inside.sh --prometheus RELEASE COMMAND…   the command is this system's, but for prometheus and promtool
#
# It takes root, and nothing of the system changes: every mount is of the command's own namespace and ends with the command.
# The release is unpacked again once its directory in the cache is removed, or the packages below change.
set -euo pipefail
here=$(dirname "$(readlink -f "$0")")
checkout=$(dirname "$(dirname "$here")")
cache=${XDG_CACHE_HOME:-$HOME/.cache}/busmon
packages=ca-certificates,gcc,git,libc6-dev,netbase,prometheus,python3,python3-dev,python3-venv,rabbitmq-server

if [ "$1" != --mounted ]; then
    release=$1
    if [[ $1 = --* ]]; then release=$2; fi
    "$here/bootstrap.sh" "$release" "$cache/debian/$release" "$packages"
    exec unshare --mount --propagation private "$here/inside.sh" --mounted "$@"
fi
shift
what=
if [[ $1 = --* ]]; then
    what=$1
    shift
fi
root=$cache/debian/$1
shift

share() {
    local path
    for path in "$@"; do
        if [ -d "$path" ]; then mkdir -p "$root$path"; elif [ -e "$path" ]; then touch "$root$path"; else continue; fi
        mount --rbind "$path" "$root$path"
    done
}

mkdir -p "$cache/python"
share /dev /proc /sys /var/tmp "${TMPDIR:-/tmp}" "$checkout" "$cache/python" /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs
case $what in
'')
    export PATH=/usr/sbin:/usr/bin:/sbin:/bin
    exec chroot "$root" sh -c 'cd "$0" && exec "$@"' "$checkout" "$@"
    ;;
--rabbitmq) programs=("$root"/usr/lib/rabbitmq/bin/* "$root"/usr/bin/epmd) ;;
--prometheus) programs=("$root"/usr/bin/prom{etheus,tool}) ;;
esac
# A program of the root is run by its own libraries, under the name that it has on this system.
found=$root/srv
mount -t tmpfs -o mode=755 programs "$found"
for program in "${programs[@]}"; do
    printf '#!/bin/sh\nexec chroot %q sh -c '"'"'cd "$0" && exec "$@"'"'"' "$PWD" %q "$@"\n' "$root" "${program#"$root"}" \
        >"$found/${program##*/}"
    chmod +x "$found/${program##*/}"
done
if [ "$what" = --rabbitmq ] && [ -d /usr/lib/rabbitmq/bin ]; then mount --bind "$found" /usr/lib/rabbitmq/bin; fi
PATH=$found:$PATH exec "$@"
