#!/usr/bin/env bash
# Downloads published GPT-2 weights into models/NAME. An interrupted download goes on where it stopped.
#   HF_ENDPOINT   where from, instead of https://huggingface.co
set -eu
cd "$(dirname "$0")/.."

files=(config.json generation_config.json vocab.json merges.txt model.safetensors)
endpoint=${HF_ENDPOINT:-https://huggingface.co}

usage() {
    echo "usage: tools/download.sh gpt2|gpt2-medium|gpt2-large|gpt2-xl [...]" >&2
    exit 2
}

fail() {
    printf 'download: %s\n' "$1" >&2
    exit 1
}

# Goes on with the partial file, from the beginning where that cannot be.
fetch_with_curl() { # URL FILE
    local progress=(--silent --show-error) status=0 code
    [ ! -t 2 ] || progress=(--progress-bar)
    for _ in 1 2 3 4 5; do
        status=0
        code=$(curl --fail --location --retry 3 "${progress[@]}" --continue-at - --write-out '%{http_code}' \
            --output "$2" "$1") || status=$?
        case $status/$code in
        0/*) return 0 ;;
        33/* | */416) rm -f "$2" ;;  # the server cannot resume; there is nothing behind what we have
        18/* | 28/* | 56/*) ;;       # the connection broke off
        *) break ;;
        esac
    done
    return "$status"
}

fetch_with_wget() { # URL FILE
    local progress=(--no-verbose)
    [ ! -t 2 ] || progress=(--quiet --show-progress)
    wget "${progress[@]}" --tries=3 --continue --output-document="$2" "$1"
}

fetch() {
    if command -v curl >/dev/null 2>&1; then fetch_with_curl "$@"
    elif command -v wget >/dev/null 2>&1; then fetch_with_wget "$@"
    else fail "needs curl or wget"
    fi
}

lacking() { # DIRECTORY: its first file that is not there
    local file
    for file in "${files[@]}"; do [ -f "$1/$file" ] || { echo "$file"; return; }; done
}

verify() { # DIRECTORY
    if [ -x ./gpt2infer ]; then
        ./gpt2infer info --model "$1" >/dev/null ||
            fail "$1 is complete but not readable (see above); remove it to download it again"
    else
        echo "download: ./gpt2infer is not built: $1 is not verified" >&2
    fi
}

download() { # NAME
    local target=models/$1 part=models/$1.part file
    if [ -e "$target" ]; then
        [ -z "$(lacking "$target")" ] || fail "$target exists but lacks $(lacking "$target"); move it away"
        echo "$target is complete" >&2
        return
    fi
    mkdir -p "$part"
    for file in "${files[@]}"; do
        [ ! -f "$part/$file" ] || continue
        echo "$target/$file" >&2
        fetch "$endpoint/openai-community/$1/resolve/main/$file" "$part/$file.part" ||
            fail "$1: $file could not be downloaded; run this again to go on where it stopped"
        mv "$part/$file.part" "$part/$file"
    done
    verify "$part"
    mv "$part" "$target"
    echo "$target is complete" >&2
}

[ "$#" -gt 0 ] || usage
for name in "$@"; do
    case $name in
    gpt2 | gpt2-medium | gpt2-large | gpt2-xl) ;;
    *) echo "download: unknown model \"$name\"" >&2; usage ;;
    esac
done
for name in "$@"; do download "$name"; done
