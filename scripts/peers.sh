#!/usr/bin/env bash
# Builds what the tests of the gateway run into the cache: h2spec, and servers and clients that speak
# gRPC and WebSocket.
#
# h2spec's module cannot be installed by name through every proxy, so there is a go.mod of our own.
# The folder is keyed by the versions there and by our program's text, and appears whole or not at all.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/cache.sh"

TEXT=$(cat "$HERE"/peers/*.go "$HERE/peers/go.mod" | cksum | cut -d' ' -f1)
FOLDER="peers-$TEXT"

build() { (cd "$HERE/peers" && CGO_ENABLED=0 nice go build -trimpath -ldflags "-s -w" -o "$TARGET/bin/$1" "$2"); }

main() {
    if ! cached "$FOLDER"; then
        lock
        if ! cached "$FOLDER"; then
            have go || fail "building h2spec and what speaks gRPC and WebSocket needs Go: install Go 1.25 or newer, and put it in PATH"
            say "h2spec and what speaks gRPC and WebSocket in tests are built once, into $CACHE/$FOLDER"
            new_target "$FOLDER"
            build h2spec github.com/summerwind/h2spec/cmd/h2spec
            build gateway-peer .
            keep_target "$FOLDER"
        fi
    fi
    link "$FOLDER" peers
}

main
