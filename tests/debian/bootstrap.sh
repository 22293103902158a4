#!/bin/bash
# Debian's packages of one release, in a directory or in a tar file of their own. It takes root and mmdebstrap.
#
#   bootstrap.sh RELEASE TARGET PACKAGE,…     TARGET is left as it is where it has these packages; a name that ends in .tar
#                                             is a file
#
# The mirror is the one of the system's own apt sources, else mmdebstrap's. Its index may be older than it says it is valid:
# a mirror that stands still is good enough to test with, and its signature is checked all the same.
set -euo pipefail
release=$1 target=$2 packages=$3

mkdir -p "$(dirname "$target")"
exec 9>"$target.lock"
flock 9
if [ -e "$target" ] && [ "$(cat "$target.packages" 2>/dev/null)" = "$packages" ]; then exit; fi
# In a directory that holds a root, a process of an earlier, killed run may have its mounts yet: only this system is cleared.
rm -rf --one-file-system "$target.new" "$target.new.tar" "$target.old"
format=directory new=$target.new
if [[ $target = *.tar ]]; then format=tar new=$target.new.tar; fi
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'ORIGIN: Debian' 'LABEL: Debian' | grep -m 1 .) || mirror=
log=$target.log
if ! mmdebstrap --variant=minbase --aptopt='Acquire::Check-Valid-Until "false"' --include="$packages" --format="$format" \
    "$release" "$new" ${mirror:+"$mirror"} >"$log" 2>&1 9>&-; then
    echo "Debian $release can't be unpacked: $(grep -m 1 '^E: ' "$log" || tail -n 1 "$log") (whole log: $log)" >&2
    exit 1
fi
if [ -e "$target" ]; then mv -T "$target" "$target.old"; fi
mv -T "$new" "$target"
echo "$packages" >"$target.packages"
rm -rf --one-file-system "$target.old"
rm "$log"
