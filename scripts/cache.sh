# The cache folder of engines: entries appear whole or not at all. Sourced by the scripts beside it.

CACHE=${SORTIE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sortie}
mkdir -p "$CACHE"

say() { printf 'sortie: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

cached() { [ -d "$CACHE/$1/bin" ]; }

# One builder at a time. The lock ends with this process; what a killed one left is removed here.
lock() {
    exec 9>"$CACHE/lock"
    flock -n 9 || {
        say "waiting for another install"
        flock 9
    }
    rm -rf "$CACHE"/*.part
}

new_target() {
    TARGET="$CACHE/$1.part"
    mkdir -p "$TARGET"
}

keep_target() { mv -T "$TARGET" "$CACHE/$1"; }

# link FOLDER NAME: the name under which the lab looks for it.
link() {
    [ "$(readlink "$CACHE/$2")" = "$1" ] || { ln -sfn "$1" "$CACHE/$2.link" && mv -T "$CACHE/$2.link" "$CACHE/$2"; }
}
