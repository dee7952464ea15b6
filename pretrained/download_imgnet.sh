#!/usr/bin/env bash
# Fetches the image ResNets that training starts from into this folder, checks them, and goes on with what a broken
# connection left. See README.md beside it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

TORCHVISION_URL=${TORCHVISION_URL:-https://download.pytorch.org/models}
MVFNET_URL=${MVFNET_URL:-https://github.com/whwu95/MVFNet/releases/download/v0.1}

usage() {
    cat <<'TEXT'
usage: bash pretrained/download_imgnet.sh MODEL...

MODEL is one of
  18 34 50 101 152         torchvision's ResNets, first weights (IMAGENET1K_V1), which the configs name
  50-v2 101-v2 152-v2      the same networks, trained longer (IMAGENET1K_V2)
  mvfnet50 mvfnet101       those of MVFNet's release: resnet50.pth and resnet101.pth
  NAME-XXXXXXXX.pth        any file of torchvision, such as r2plus1d_18-91a641e6.pth

Environment
  TORCHVISION_URL, MVFNET_URL   a mirror: the address without the file's name
  MVFNET50_SHA256, MVFNET101_SHA256   checksums that you trust; MVFNet publishes none
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

# What a file's checksum must begin with; nothing if that is not known.
expected() {
    local file=$1 given=$2
    if [[ -n $given ]]; then
        given=$(tr '[:upper:]' '[:lower:]' <<<"$given")
        [[ $given =~ ^[0-9a-f]{64}$ ]] || fail "the checksum $given given for $file is no SHA-256 of 64 digits"
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

# Fetch an address into a file, going on behind what is there.
fetch() {
    local url=$1 part=$2 status=0 code
    if ! command -v curl >/dev/null; then
        command -v wget >/dev/null || fail 'neither curl nor wget is installed'
        wget -nv -c -O "$part" "$url" || fail "$url did not arrive completely; run this again to go on with it"
        return
    fi
    code=$(curl -fL -# --connect-timeout 30 --retry 3 -C - -o "$part" -w '%{http_code}' "$url") || status=$?
    # 33: the server sends whole files only. 416: there is nothing behind what we have, so that must be wrong.
    if [[ -s $part && ($status == 33 || $code == 416) ]]; then
        echo "$url cannot be resumed; starting over"
        rm -f "$part"
        status=0
        curl -fL -# --connect-timeout 30 --retry 3 -o "$part" "$url" || status=$?
    fi
    [[ $status == 0 ]] || fail "$url did not arrive completely (curl: $status); run this again to go on with it"
}

download() {
    local file=$1 url=$2/$1 given=$3 wanted part=$1.part was_resumed=''
    wanted=$(expected "$file" "$given")
    if [[ -f $file ]]; then
        is_right "$file" "$wanted" ||
            fail "pretrained/$file is there, but its checksum does not begin with $wanted; remove it"
        echo "pretrained/$file is there already"
        return
    fi
    # A part may be whole: the connection broke behind the last byte, or somebody stopped the check.
    if [[ -z $wanted ]] || ! is_right "$part" "$wanted"; then
        [[ ! -s $part ]] || was_resumed=1
        fetch "$url" "$part"
    fi
    if [[ -n $was_resumed ]] && ! is_right "$part" "$wanted"; then
        echo "$part was no beginning of $file; starting over"
        rm -f "$part"
        fetch "$url" "$part"
    fi
    if ! is_right "$part" "$wanted"; then
        rm -f "$part"
        fail "$url has another checksum than $wanted...; what arrived is removed, nothing else is changed"
    fi
    if [[ -z $wanted ]]; then
        echo "nobody publishes a checksum of $file; that of this first download is kept in pretrained/$file.sha256:"
        echo "$(sha256 "$part")  $file" | tee "$file.sha256"
    fi
    mv "$part" "$file"
    echo "pretrained/$file is complete"
}

if [[ $# == 0 || $1 == -h || $1 == --help ]]; then
    usage
    exit 0
fi
for model in "$@"; do
    file_of "$model" >/dev/null || fail "$model is none of the models; without arguments this lists them"
done
for model in "$@"; do
    file=$(file_of "$model")
    case $model in
        mvfnet50) download "$file" "$MVFNET_URL" "${MVFNET50_SHA256:-}" ;;
        mvfnet101) download "$file" "$MVFNET_URL" "${MVFNET101_SHA256:-}" ;;
        *) download "$file" "$TORCHVISION_URL" '' ;;
    esac
done
