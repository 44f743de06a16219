#!/usr/bin/env bash
# Unpacks the distribution's docker.io, containerd and runc into the cache.
#
# They are not installed: no package script runs, no service starts, and a Docker that is on
# the machine stays as it is. `docker-debian.sh 20.10` fails when that is not the version offered.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/cache.sh"

WANTED=${1:-}

# The major and minor number of the docker.io that apt would install, as 20.10.
offered() {
    apt-cache policy docker.io | sed -n 's/^ *Candidate: \([0-9]*:\)\{0,1\}\([0-9]*\.[0-9]*\).*/\2/p'
}

unpack() {
    local deb
    (cd "$TARGET" && apt-get -qq -o APT::Sandbox::User=root download docker.io containerd runc)
    for deb in "$TARGET"/*.deb; do
        dpkg-deb -x "$deb" "$TARGET/root"
        rm "$deb"
    done
    mkdir "$TARGET/bin"
    find "$TARGET/root/usr/bin" "$TARGET/root/usr/sbin" -type f -perm -u+x -exec mv -t "$TARGET/bin" {} +
    rm -r "$TARGET/root"
}

main() {
    if [ -n "$WANTED" ] && cached "docker-$WANTED"; then
        link "docker-$WANTED" docker-distribution
        return
    fi
    if [ -z "$WANTED" ] && cached docker-distribution; then
        return
    fi
    have apt-get || fail "Docker is not on this machine, and without apt-get it cannot be fetched: install Docker"
    local version
    version=$(offered)
    [ -n "$version" ] || fail "apt-get knows no docker.io: run apt-get update, or install Docker"
    if [ -n "$WANTED" ] && [ "$version" != "$WANTED" ]; then
        fail "the tests need Docker $WANTED, this distribution has $version: run them on Debian 12"
    fi
    lock
    if ! cached "docker-$version"; then
        say "fetching the distribution's Docker $version into $CACHE/docker-$version (not installed, not started)"
        new_target "docker-$version"
        unpack
        keep_target "docker-$version"
    fi
    link "docker-$version" docker-distribution
}

main
