#!/usr/bin/env bash
# Builds Docker Compose 2, the one that goes with Docker 29, from source into the cache.
#
# The module cannot be installed by name, because it has exclusions; so there is a go.mod of our own.
# The folder is keyed by the version there and appears whole or not at all.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/cache.sh"

PACKAGE=github.com/docker/compose/v2
VERSION=$(sed -n "s|.*$PACKAGE \(v[^ ]*\).*|\1|p" "$HERE/compose/go.mod")
FOLDER="compose-$VERSION"

main() {
    if ! cached "$FOLDER"; then
        lock
        if ! cached "$FOLDER"; then
            have go || fail "building Docker Compose needs Go: install Go 1.25 or newer, and put it in PATH"
            say "Docker Compose is built once, into $CACHE/$FOLDER (about three minutes)"
            new_target "$FOLDER"
            (cd "$HERE/compose" && CGO_ENABLED=0 nice go build -trimpath -ldflags "-s -w" \
                -o "$TARGET/bin/docker-compose" "$PACKAGE/cmd")
            keep_target "$FOLDER"
        fi
    fi
    link "$FOLDER" compose
}

main
