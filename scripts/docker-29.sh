#!/usr/bin/env bash
# Builds Docker 29 (dockerd, docker-proxy, containerd, its shim, runc) from source into the cache.
#
# Debian has no Docker 29, and its runc does not know time namespaces, which Docker 29 asks for.
# The folder is keyed by the versions below and appears whole or not at all.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/cache.sh"

MOBY=v2.0.0-beta.24 # the module's version of Docker 29
DOCKER=29.0.0       # what dockerd calls itself; empty unless it is set
CONTAINERD=v2.4.2
RUNC=v1.3.4
FOLDER="docker-29-$MOBY-containerd-$CONTAINERD-runc-$RUNC"

need_go() {
    have go || fail "building Docker 29 needs Go: install Go 1.25 or newer, and put it in PATH"
    have gcc || fail "building runc needs gcc: install gcc"
    pkg-config --exists libseccomp || fail "building runc needs libseccomp's headers: install libseccomp-dev and pkg-config"
}

# build CGO_ENABLED PACKAGE@VERSION [FLAG…]
build() {
    local cgo=$1 package=$2
    shift 2
    say "building $package"
    CGO_ENABLED=$cgo GOBIN="$TARGET/bin" nice go install -trimpath "$@" "$package"
}

build_all() {
    local moby=github.com/moby/moby/v2 containerd=github.com/containerd/containerd/v2
    build 0 "$moby/cmd/dockerd@$MOBY" -ldflags "-s -w -X $moby/dockerversion.Version=$DOCKER"
    build 0 "$moby/cmd/docker-proxy@$MOBY" -ldflags "-s -w"
    build 0 "$containerd/cmd/containerd@$CONTAINERD" -ldflags "-s -w"
    build 0 "$containerd/cmd/containerd-shim-runc-v2@$CONTAINERD" -ldflags "-s -w"
    build 1 "github.com/opencontainers/runc@$RUNC" -tags seccomp -ldflags "-s -w"
}

main() {
    if cached "$FOLDER"; then
        link "$FOLDER" docker-29
        return
    fi
    lock
    if ! cached "$FOLDER"; then
        need_go
        say "Docker 29 is built once, into $CACHE/$FOLDER (about five minutes)"
        new_target "$FOLDER"
        build_all
        keep_target "$FOLDER"
    fi
    link "$FOLDER" docker-29
}

main
