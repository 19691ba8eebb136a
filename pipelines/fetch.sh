#!/usr/bin/env bash
# fetch.sh - brings a FLAN-T5 model or SAMSum here: goes on where it was stopped, checks sizes and SHA-256.
#
# usage: T5_HUB=URL pipelines/fetch.sh [-o DIR] [-r REVISION] MODEL      into models/NAME
#        pipelines/fetch.sh [-o DIR] samsum                              into samsum
#
# MODEL   flan-t5-small, flan-t5-base, flan-t5-large, flan-t5-xl, flan-t5-xxl, or OWNER/NAME of another T5
# -o      the directory to fill
# -r      branch, tag or commit [main]
# T5_HUB  address of a model hub: URL/OWNER/NAME/resolve/REVISION/FILE is a file there, and raw/REVISION/FILE
#         the same as Git has it, which is a Git-LFS pointer with size and SHA-256 for all that is large.
#         A copy on disk will do: file:///mnt/hub
# T5_SUMS a table of further hashes, as sha256sum writes it, of files by name; a file in it must be as it says
# T5_TRIES how often a connection that breaks is taken up again [5]
# T5_SAMSUM  address of SAMSum's archive [the paper's, https://arxiv.org/src/1911.12237v2/anc/corpus.7z]
#
# A model is config.json, spiece.model and weights: safetensors if it has them, otherwise .bin, single or in
# shards; and what it has of tokenizer*.json and special_tokens_map.json. DIR/SHA256SUMS tells what was got, for
# `sha256sum -c`. SAMSum is unpacked to train.jsonl, val.jsonl and test.jsonl: 14,732, 818 and 819 records.
# Without a network it says what to place where. Sizes: 0.3, 1, 3, 11 and 45 GB; SAMSum 3 MB. A killed run
# leaves FILE.part and is gone on with by the same command; what is complete is not fetched again.
#
# Exit status: 0; 1 what came is not what it should be; 2 usage; 4 network or disk, another try may work.
set -euo pipefail
program=${0##*/}
hub=${T5_HUB:-}
tries=${T5_TRIES:-5}

die() { local status=$1; shift; echo "$program: $*" >&2; exit "$status"; }
[ "${1:-}" != --help ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit; }

# What to do by hand, as the last line of every failure to get something.
by_hand() {
    if [ "$what" = samsum ]; then
        echo "by hand: place corpus.7z, SAMSum's archive, into $dir/ and run this again"
    else
        echo "by hand: place config.json, spiece.model and the weights (model.safetensors or pytorch_model.bin," \
            "or their shards with the .index.json) of $repo into $dir/; nothing else is needed"
    fi
}
unreachable() { die 4 "$1"$'\n'"$program: $(by_hand)"; }

# request URL PART: curl, from where PART ends. 0: whole; 1: the server has no such file, or refuses it; 2: it
# cannot go on from the middle; 3: the connection broke, or the server is busy. No network, no disk: the end.
request() {
    local url=$1 part=$2 rc=0 said
    said=$(curl --fail --silent --show-error --location --connect-timeout 20 --speed-time 60 --speed-limit 1 \
        --continue-at - --output "$part" --write-out '%{http_code}' "$url" 2>&1) || rc=$?
    case $rc-${said: -3} in
    0-*) return 0 ;;
    22-416) return 2 ;;
    22-4* | 37-*) return 1 ;;
    33-* | 36-*) return 2 ;;
    5-* | 6-* | 7-*) unreachable "$url: $(message "$said")" ;;
    23-*) die 4 "$part: $(message "$said")" ;;
    esac
    echo "$program: $url: $(message "$said")" >&2
    return 3
}
message() { local text=${1%???}; echo "${text#curl: }"; }

# download URL PART SIZE: until PART has SIZE bytes (0: until the server says it is whole), in several tries. 1: no
# such file.
download() {
    local url=$1 part=$2 size=$3 try rc
    for ((try = 1; try <= tries; try++)); do
        if [ "$size" -gt 0 ] && [ -e "$part" ] && [ "$(stat -c %s "$part")" -ge "$size" ]; then return; fi
        rc=0
        request "$url" "$part" || rc=$?
        case $rc in
        0 | 1) return $rc ;;
        2) rm -f "$part" ;;
        3) [ "$try" = "$tries" ] || sleep $((2 * try - 1)) ;;
        esac
    done
    unreachable "$url: gave up after $tries tries; the same command goes on"
}

sha256() { sha256sum < "$1" | cut -d ' ' -f 1; }
# The hash that a table has for FILE; nothing where it has none.
in_table() { [ ! -f "$1" ] || awk -v name="$2" '{ hash = $1; sub(/^[^ ]+ [ *]/, ""); if ($0 == name) print hash }' "$1"; }

# accept FILE SHA256 SIZE: FILE.part becomes FILE if it is what it should be (0 or nothing: not known).
accept() {
    local file=$1 want=$2 size=$3 have found table=''
    have=$(stat -c %s "$dir/$file.part")
    if [ "$size" != 0 ] && [ "$have" != "$size" ]; then
        rm -f "$dir/$file.part"
        die 1 "$file: $size bytes expected, $have found; removed"
    fi
    found=$(sha256 "$dir/$file.part")
    [ -z "${T5_SUMS:-}" ] || table=$(in_table "$T5_SUMS" "$file")
    for want in $want $table; do
        [ "$found" = "$want" ] && continue
        rm -f "$dir/$file.part"
        die 1 "$file: SHA-256 $want expected, $found found; removed"
    done
    mv "$dir/$file.part" "$dir/$file"
    { [ ! -f "$dir/SHA256SUMS" ] || awk -v name="$file" '$2 != name' "$dir/SHA256SUMS"; echo "$found  $file"; } \
        > "$dir/SHA256SUMS.part"
    mv "$dir/SHA256SUMS.part" "$dir/SHA256SUMS"
    echo "$program: $dir/$file: $have bytes, SHA-256 $found" >&2
}

# fetch FILE: 1 if the hub has none. What Git has is small: the file itself, or a pointer to it.
fetch() {
    local file=$1 git="$dir/$1.git" want size
    rm -f "$git"
    download "$hub/$repo/raw/$revision/$file" "$git" 0 || return
    if ! grep -qs '^version https://git-lfs' <(head -c 200 "$git"); then
        mv "$git" "$dir/$file.part"
        accept "$file" '' 0
        return
    fi
    want=$(sed -n 's/^oid sha256:\([0-9a-f]\{64\}\)$/\1/p' "$git")
    size=$(sed -n 's/^size \([0-9]\{1,15\}\)$/\1/p' "$git")
    rm -f "$git"
    [ -n "$want" ] || die 1 "$file: a Git-LFS pointer without a SHA-256"
    if [ "$(in_table "$dir/SHA256SUMS" "$file")" = "$want" ] && [ "$(stat -c %s "$dir/$file" 2>&1)" = "$size" ]; then
        return
    fi
    download "$hub/$repo/resolve/$revision/$file" "$dir/$file.part" "${size:-0}" ||
        unreachable "$hub/$repo: $file is not there, or refused"
    accept "$file" "$want" "${size:-0}"
}

need() { fetch "$1" || unreachable "$hub/$repo: no $1, or refused"; }

# fetch_weights STEM EXTENSION: one file, or the shards that an index names; 1 if there is neither.
fetch_weights() {
    local index="$1.$2.index.json" shard shards
    if ! fetch "$index"; then
        fetch "$1.$2"
        return
    fi
    shards=$(jq -er '.weight_map | [.[]] | unique[] | select(test("^[A-Za-z0-9_][A-Za-z0-9._-]*$") or error(.))' \
        "$dir/$index" 2>&1) || die 1 "$index: no list of shards: $shards"
    for shard in $shards; do need "$shard"; done
}

fetch_model() {
    [ -n "$hub" ] || die 2 "T5_HUB is not set: the address of a model hub (see --help)"$'\n'"$program: $(by_hand)"
    need config.json
    jq -e '.model_type == "t5"' "$dir/config.json" > /dev/null 2>&1 || die 1 "$dir/config.json: not a T5's"
    need spiece.model
    local file
    for file in tokenizer_config.json tokenizer.json special_tokens_map.json; do fetch "$file" || true; done
    fetch_weights model safetensors || fetch_weights pytorch_model bin ||
        unreachable "$hub/$repo: neither safetensors nor .bin"
}

fetch_samsum() {
    local split count expected url=${T5_SAMSUM:-https://arxiv.org/src/1911.12237v2/anc/corpus.7z}
    if [ ! -f "$dir/corpus.7z" ]; then
        download "$url" "$dir/corpus.7z.part" 0 || unreachable "$url: not there, or refused"
        if ! 7z t "$dir/corpus.7z.part" > /dev/null 2>&1; then
            rm -f "$dir/corpus.7z.part"
            die 1 "$url: not a 7z archive; removed"
        fi
        accept corpus.7z '' 0
    fi
    for split in train:14732 val:818 test:819; do
        expected=${split#*:} split=${split%:*}
        7z e -so "$dir/corpus.7z" "$split.json" 2> /dev/null | jq -c '.[]' > "$dir/$split.jsonl.part" ||
            die 1 "$dir/corpus.7z: no $split.json that is an array of records"
        count=$(wc -l < "$dir/$split.jsonl.part")
        [ -n "${T5_SAMSUM:-}" ] || [ "$count" = "$expected" ] ||
            die 1 "$dir/corpus.7z: $split.json: $expected records expected, $count found"
        mv "$dir/$split.jsonl.part" "$dir/$split.jsonl"
        echo "$program: $dir/$split.jsonl: $count records" >&2
    done
}

dir='' revision=main
while getopts o:r: option; do
    case $option in
    o) dir=$OPTARG ;;
    r) revision=$OPTARG ;;
    *) die 2 "see --help" ;;
    esac
done
shift $((OPTIND - 1))
[ $# = 1 ] || die 2 "one MODEL or samsum (see --help)"
what=$1 repo=$1
[[ $what == */* ]] || repo=google/$what
[[ $what == samsum || $repo =~ ^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$ ]] || die 2 "$what: no model's name"
[ "$what" = samsum ] && kind=samsum default=samsum || kind=model default=models/${repo#*/}
dir=${dir:-$default}
mkdir -p "$dir"
trap 'rm -f "$dir"/*.git' EXIT
"fetch_$kind"
