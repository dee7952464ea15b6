#!/usr/bin/env bash
# Downloads the image ResNets for initialization into this folder and checks them. Interrupted downloads are resumed.
# See README.md in this folder.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

TORCHVISION_URL=${TORCHVISION_URL:-https://download.pytorch.org/models}
MVFNET_URL=${MVFNET_URL:-https://github.com/whwu95/MVFNet/releases/download/v0.1}

usage() {
    cat <<'TEXT'
usage: bash pretrained/download_imgnet.sh MODEL...

MODEL is one of
  18 34 50 101 152         torchvision's ResNets, first weights (IMAGENET1K_V1), used by the configs
  50-v2 101-v2 152-v2      the same networks, trained longer (IMAGENET1K_V2)
  mvfnet50 mvfnet101       MVFNet's release: resnet50.pth and resnet101.pth
  NAME-XXXXXXXX.pth        any torchvision file, such as r2plus1d_18-91a641e6.pth

Environment
  TORCHVISION_URL, MVFNET_URL   mirror: the URL without the file name
  MVFNET50_SHA256, MVFNET101_SHA256   expected checksums; MVFNet publishes none
TEXT
}

file_of() {
    case $1 in
        18) echo resnet18-f37072fd.pth ;;
        34) echo resnet34-b627a593.pth ;;
        50) echo resnet50-0676ba61.pth ;;
        101) echo resnet101-63fe2227.pth ;;
        152) echo resnet152-394f9c45.pth ;;
        50-v2) echo resnet50-11ad3fa6.pth ;;
        101-v2) echo resnet101-cd907fc2.pth ;;
        152-v2) echo resnet152-f82ba261.pth ;;
        mvfnet50) echo resnet50.pth ;;
        mvfnet101) echo resnet101.pth ;;
        */*) return 1 ;;
        *-[0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f][0-9a-f].pth) echo "$1" ;;
        *) return 1 ;;
    esac
}

fail() {
    echo "error: $*" >&2
    exit 1
}

sha256() {
    if command -v sha256sum >/dev/null; then
        sha256sum "$1" | cut -d' ' -f1
    else
        shasum -a 256 "$1" | cut -d' ' -f1
    fi
}

# Print the expected start of a file's checksum; nothing if it is unknown.
expected() {
    local file=$1 given=$2
    if [[ -n $given ]]; then
        given=$(tr '[:upper:]' '[:lower:]' <<<"$given")
        [[ $given =~ ^[0-9a-f]{64}$ ]] || fail "invalid checksum $given for $file: a SHA-256 has 64 hex digits"
        echo "$given"
    elif [[ -f $file.sha256 ]]; then
        cut -d' ' -f1 "$file.sha256"
    elif [[ $file =~ -([0-9a-f]{8})\.pth$ ]]; then
        echo "${BASH_REMATCH[1]}"
    fi
}

is_right() {
    local actual
    [[ -f $1 ]] || return 1
    actual=$(sha256 "$1")
    [[ $actual == "$2"* ]]
}

# Download a URL to a file, and resume if the file exists.
fetch() {
    local url=$1 part=$2 status=0 code
    if ! command -v curl >/dev/null; then
        command -v wget >/dev/null || fail 'curl or wget is required'
        wget -nv -c -O "$part" "$url" || fail "download of $url is incomplete; run the command again to resume"
        return
    fi
    code=$(curl -fL -# --connect-timeout 30 --retry 3 -C - -o "$part" -w '%{http_code}' "$url") || status=$?
    # 33: the server does not support ranges. 416: our file is as long as the remote one or longer, so it is wrong.
    if [[ -s $part && ($status == 33 || $code == 416) ]]; then
        echo "cannot resume $url, restarting"
        rm -f "$part"
        status=0
        curl -fL -# --connect-timeout 30 --retry 3 -o "$part" "$url" || status=$?
    fi
    [[ $status == 0 ]] || fail "download of $url is incomplete (curl: $status); run the command again to resume"
}

download() {
    local file=$1 url=$2/$1 given=$3 wanted part=$1.part was_resumed=''
    wanted=$(expected "$file" "$given")
    if [[ -f $file ]]; then
        is_right "$file" "$wanted" ||
            fail "checksum of the existing pretrained/$file does not start with $wanted; remove the file"
        echo "pretrained/$file already exists"
        return
    fi
    # The part can be complete, if the script was stopped before the check.
    if [[ -z $wanted ]] || ! is_right "$part" "$wanted"; then
        [[ ! -s $part ]] || was_resumed=1
        fetch "$url" "$part"
    fi
    if [[ -n $was_resumed ]] && ! is_right "$part" "$wanted"; then
        echo "$part does not belong to $file, restarting"
        rm -f "$part"
        fetch "$url" "$part"
    fi
    if ! is_right "$part" "$wanted"; then
        rm -f "$part"
        fail "wrong checksum of $url, expected $wanted...; the download was removed"
    fi
    if [[ -z $wanted ]]; then
        echo "no published checksum of $file; saving that of this first download to pretrained/$file.sha256:"
        echo "$(sha256 "$part")  $file" | tee "$file.sha256"
    fi
    mv "$part" "$file"
    echo "saved pretrained/$file"
}

if [[ $# == 0 || $1 == -h || $1 == --help ]]; then
    usage
    exit 0
fi
for model in "$@"; do
    file_of "$model" >/dev/null || fail "unknown model $model; run without arguments for a list"
done
for model in "$@"; do
    file=$(file_of "$model")
    case $model in
        mvfnet50) download "$file" "$MVFNET_URL" "${MVFNET50_SHA256:-}" ;;
        mvfnet101) download "$file" "$MVFNET_URL" "${MVFNET101_SHA256:-}" ;;
        *) download "$file" "$TORCHVISION_URL" '' ;;
    esac
done
