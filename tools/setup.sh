#!/usr/bin/env bash
# Installs what the build and the tests need from the distribution. Says and does nothing when it is all there.
set -eu

# Debian's package, what it is for, and the command that tells whether it is there.
requirements=(
    "gcc|C compiler with OpenMP|command -v cc"
    "libc6-dev|C library headers|has_header stdio.h"
    "make|build|command -v make"
    "pkg-config|finds the libraries|command -v pkg-config"
    "libjansson-dev|JSON|pkg-config --exists jansson"
    "libpcre2-dev|GPT-2's split pattern|pkg-config --exists libpcre2-8"
    "libopenblas-dev|matrix products on the CPU|pkg-config --exists openblas"
    "libstb-dev|hash maps and dynamic arrays|has_header stb/stb_ds.h"
    "libcmocka-dev|tests|pkg-config --exists cmocka"
)

has_header() { printf '#include <%s>\n' "$1" | cc -E -x c - ; }

find_missing() { # sets the array `missing`
    local requirement package probe
    missing=()
    for requirement in "${requirements[@]}"; do
        package=${requirement%%|*} probe=${requirement##*|}
        # shellcheck disable=SC2086 # a probe is a command and its arguments
        $probe >/dev/null 2>&1 || missing+=("$package")
    done
}

fail() {
    printf 'setup: %s\n' "$1" >&2
    exit 1
}

list_requirements() {
    local requirement package purpose
    for requirement in "${requirements[@]}"; do
        IFS='|' read -r package purpose _ <<<"$requirement"
        case " ${missing[*]} " in *" $package "*) printf '  %-16s %s\n' "$package" "$purpose" ;; esac
    done
}

find_missing
[ "${#missing[@]}" -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "setup: there is no apt-get here; install what Debian calls" >&2
    list_requirements >&2
    exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null 2>&1 || fail "needs root to install ${missing[*]}: run it as root, or install sudo"
    as_root=(sudo)
fi
as_root+=(env DEBIAN_FRONTEND=noninteractive)

"${as_root[@]}" apt-get update -q || echo "setup: apt-get update failed; trying with the lists that are here" >&2
"${as_root[@]}" apt-get install -y -q --no-install-recommends "${missing[@]}" ||
    fail "apt-get could not install ${missing[*]}"

find_missing
[ "${#missing[@]}" -eq 0 ] || fail "still not usable after installing: ${missing[*]}"
