#!/bin/bash
# Says in one line why no other Debian release can be run here; nothing where one can.
missing=()
for tool in mmdebstrap unshare chroot flock; do command -v $tool >/dev/null || missing+=("$tool"); done
if [ "$(id -u)" != 0 ]; then
    echo "another Debian release takes root"
elif [ ${#missing[@]} -gt 0 ]; then
    echo "another Debian release takes ${missing[*]}: apt-get install mmdebstrap"
elif ! unshare --mount --propagation private true 2>/dev/null; then
    echo "another Debian release takes mounts of its own, which this system doesn't allow"
fi
