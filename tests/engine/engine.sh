#!/bin/bash
# A Docker Engine in namespaces of its own, from Debian 13's packages. It takes root, and nothing of the host changes.
#
#   engine.sh DIR up        make DIR/root, once, and start dockerd; DIR/docker.sock is its socket
#   engine.sh DIR in CMD…   run a command in its mounts and its network
#   engine.sh DIR down      end it, and all containers with it
set -euo pipefail
dir=$1 what=$2
shift 2
packages=ca-certificates,docker.io,docker-cli,docker-compose,docker-buildx,iptables,iproute2,procps

inner() { pgrep -P "$(cat "$dir/pid")"; }

up() {
    mkdir -p "$dir/data"
    "$(dirname "$(readlink -f "$0")")/../debian/bootstrap.sh" trixie "$dir/root" "$packages"
    rm -f "$dir/docker.sock"
    setsid unshare --mount --uts --ipc --pid --net --cgroup --fork --kill-child --propagation private \
        "$0" "$dir" serve >"$dir/log" 2>&1 </dev/null &
    echo $! >"$dir/pid"
    for _ in $(seq 300); do
        if [ -S "$dir/docker.sock" ] && "$0" "$dir" in docker info >/dev/null 2>&1; then return; fi
        kill -0 "$(cat "$dir/pid")" 2>/dev/null || break
        sleep 0.2
    done
    tail -n 5 "$dir/log" >&2
    return 1
}

mount_cgroups() {
    local controller
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        mount -t cgroup2 cgroup2 "$1"
        return
    fi
    mount -t tmpfs -o mode=755 tmpfs "$1"
    for controller in cpu cpuacct cpuset memory devices freezer blkio pids; do
        mkdir "$1/$controller"
        mount -t cgroup -o "$controller" cgroup "$1/$controller" || rmdir "$1/$controller"
    done
}

serve() {
    local root=$dir/root
    mount --bind "$root" "$root"
    mount -t proc proc "$root/proc"
    mount -t sysfs sysfs "$root/sys"
    mount_cgroups "$root/sys/fs/cgroup"
    mount -t devtmpfs dev "$root/dev"
    mkdir -p "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    mount -t tmpfs shm "$root/dev/shm"
    mount -t tmpfs run "$root/run"
    mount -t tmpfs tmp "$root/tmp"
    mount --bind "$dir" "$root/srv"
    mkdir -p "$root/var/lib/docker"
    mount --bind "$dir/data" "$root/var/lib/docker"
    ip link set lo up
    hostname engine
    # A chroot alone would not do: health checks and `docker exec` would see the host's root and not the container's.
    cd "$root"
    mkdir -p old
    pivot_root . old
    exec chroot . sh -c 'umount -l /old; rmdir /old; mount --make-rshared /
        exec dockerd --host unix:///srv/docker.sock --storage-driver overlay2 --exec-opt native.cgroupdriver=cgroupfs'
}

case $what in
up) up ;;
serve) serve ;;
in)
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DOCKER_HOST=unix:///srv/docker.sock \
        nsenter -t "$(inner)" -m -n -p --wdns=/srv "$@"
    ;;
down)
    pid=$(inner) || exit 0
    kill "$pid" 2>/dev/null || exit 0
    for _ in $(seq 300); do
        kill -0 "$pid" 2>/dev/null || exit 0
        sleep 0.2
    done
    kill -9 "$pid"
    ;;
esac
