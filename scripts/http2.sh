#!/usr/bin/env bash
# Builds what the gateway's tests of HTTP/2 run into the cache: h2spec, and a gRPC server and client.
#
# h2spec's module cannot be installed by name through every proxy, so there is a go.mod of our own.
# The folder is keyed by the versions there and by our program's text, and appears whole or not at all.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/cache.sh"

TEXT=$(cat "$HERE/http2/main.go" "$HERE/http2/go.mod" | cksum | cut -d' ' -f1)
FOLDER="http2-$TEXT"

build() { (cd "$HERE/http2" && CGO_ENABLED=0 nice go build -trimpath -ldflags "-s -w" -o "$TARGET/bin/$1" "$2"); }

main() {
    if ! cached "$FOLDER"; then
        lock
        if ! cached "$FOLDER"; then
            have go || fail "building h2spec and the gRPC test program needs Go: install Go 1.25 or newer, and put it in PATH"
            say "h2spec and a gRPC test program are built once, into $CACHE/$FOLDER"
            new_target "$FOLDER"
            build h2spec github.com/summerwind/h2spec/cmd/h2spec
            build grpc-echo .
            keep_target "$FOLDER"
        fi
    fi
    link "$FOLDER" http2
}

main
