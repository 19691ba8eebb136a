#!/usr/bin/env bats
# power.bats - the power goes behind any operation of a run: what the disk may hold then, whatever was not yet fsynced lost, torn
# or kept, has old or new outputs, complete. tests/power: the recorder that is preloaded and the program that makes the disks.

bats_require_minimum_version 1.5.0

load training

setup_file() {
    export ASAN_OPTIONS=verify_asan_link_order=0:detect_leaks=0
}

# A program with all that it does in $tmp/live written down.
recorded() {
    local b
    b=$(cd "${B:-build}" && pwd)
    POWER_LOG=$tmp/power POWER_DIR=$tmp/live LD_PRELOAD=$b/power/record.so "$@"
}

# BEFORE LIMIT NAMES: disks in $tmp/disks, listed in $tmp/cuts.
cut_power() {
    mkdir "$tmp/disks"
    "${B:-build}/power/replay" "$tmp/power" "$1" "$tmp/live" "$tmp/disks" "$2" "$3" >"$tmp/cuts"
}

@test "t5-train: every disk resumes, from the newest checkpoint that was there, to the same bytes" {
    local how=(--max-steps 3 --save-every 1 --eval "$records" --eval-every 1 --best loss)
    train -o "$tmp/whole" "${how[@]}" $records >"$tmp/log"
    mkdir "$tmp/live"
    recorded t5-train --device $device --threads 1 -m $model -o "$tmp/live/out" "${how[@]}" $records >"$tmp/log"
    cut_power '' 75 'checkpoint.*'
    local n k promised
    while read -r n k promised; do
        echo "disk $n, cut behind operation $k, $promised checkpoints"
        run -0 --separate-stderr train -o "$tmp/disks/$n/out" "${how[@]}" --resume $records
        [ -z "$stderr" ]
        [[ ${lines[0]} =~ \"resumed_from_step\":([0-9]+) ]] || BASH_REMATCH=(0 0)
        [ "${BASH_REMATCH[1]}" -ge "$promised" ]
        same_result "$tmp/whole" "$tmp/disks/$n/out"
        diff -r "$tmp/whole/best" "$tmp/disks/$n/out/best"
        rm -r "$tmp/disks/$n"
    done <"$tmp/cuts"
    [ "$(wc -l <"$tmp/cuts")" -gt 60 ]
    [ "$(tail -1 "$tmp/cuts" | cut -d' ' -f3)" = 3 ] # the last of which says that the run is complete
}

# COMMAND...: one that writes work/out leaves the old file, until it has ended and perhaps earlier the new one.
old_or_new() {
    local n k promised last=
    mkdir "$tmp/live"
    echo old >"$tmp/live/out"
    cp -r "$tmp/live" "$tmp/before"
    recorded "$@"
    cut_power "$tmp/before" 1000 out
    while read -r n k promised; do
        echo "disk $n, cut behind operation $k"
        last=$promised
        cmp -s "$tmp/live/out" "$tmp/disks/$n/out" && continue
        [ "$promised" = 0 ]
        cmp "$tmp/before/out" "$tmp/disks/$n/out"
    done <"$tmp/cuts"
    [ "$(wc -l <"$tmp/cuts")" -gt 10 ]
    [ "$last" = 1 ]
    run ! cmp -s "$tmp/live/out" "$tmp/before/out"
}

@test "t5-quantize: the old file or the whole new one" {
    old_or_new t5-quantize -o "$tmp/live/out" $model
}

@test "t5-tokenize: the old file or the whole new one" {
    old_or_new t5-tokenize -s testdata/demo/spiece.model --to safetensors -o "$tmp/live/out" testdata/demo/test.jsonl
}
