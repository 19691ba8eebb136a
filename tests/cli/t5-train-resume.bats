#!/usr/bin/env bats
# t5-train-resume.bats - the same bytes whatever happens to a run of t5-train: kills, signals, faults of disk and pipe;
# checkpoints, and the directory that holds them.

bats_require_minimum_version 1.5.0

load training

# ---- interruption ----

killed_again_and_again() {
    local runs=0 status
    long -o "$tmp/whole" >"$tmp/whole.jsonl"
    # each try lives a little longer, until one reaches the end
    for wait in 0.01 0.03 0.05 0.07 0.09 0.11 0.13 0.15 0.17 0.19 0.25 0.3 0.4 5 20; do
        runs=$((runs + 1))
        t5-train --device $device --threads 1 -m $model --epochs 8 --save-every 5 --eval $records -o "$out" --resume \
            $records >>"$tmp/log" 3>&- &
        job=$!
        (sleep $wait; kill -9 $job) >/dev/null 2>&1 3>&- &
        killer=$!
        status=0
        wait $job || status=$?
        kill $killer 2>/dev/null || true
        [ $status != 0 ] || break
        [ $status = 137 ]
        [ "$(find "$out" -name '.t5tmp*' | wc -l)" -le 1 ]
    done
    job=
    [ $status = 0 ]
    echo "$runs runs"
    same_result "$tmp/whole" "$out"
    # a line may be cut by the kill
    cmp <(figures "$tmp/whole.jsonl") <(grep -E '^\{.*\}$' "$tmp/log" | figures)
}

@test "killed at any moment and resumed: the same bytes" {
    killed_again_and_again
}

@test "killed at any moment and resumed on the CPU backend: the same bytes" {
    need_cpu
    killed_again_and_again
}

@test "killed at every rename, fsync and write of a checkpoint and resumed: the same bytes" {
    need_strace
    train -o "$tmp/whole" --max-steps 4 --save-every 1 $records >"$tmp/log"
    local points=0 call k status
    for call in rename fsync write; do
        for k in 1 2 3 5 8 13 21 34; do
            rm -rf "$out"
            status=0
            strace -f -qq -o /dev/null -e trace=$call -e inject=$call:signal=KILL:when=$k t5-train --device $device \
                --threads 1 -m $model -o "$out" --max-steps 4 --save-every 1 $records >"$tmp/log" || status=$?
            [ $status != 0 ] || continue 2
            [ $status = 137 ]
            points=$((points + 1))
            train -o "$out" --max-steps 4 --save-every 1 --resume $records >"$tmp/log"
            same_result "$tmp/whole" "$out"
        done
    done
    [ $points -gt 12 ]
}

@test "failing system calls: status 4, no temporary left, the run resumes to the same bytes" {
    need_strace
    train -o "$tmp/whole" --max-steps 2 --save-every 1 $records >"$tmp/log"
    local points=0 fault k status
    for fault in fsync:error=EIO rename:error=EACCES write:error=ENOSPC pwrite64:error=EIO ftruncate:error=EIO; do
        for k in $(seq 60); do
            rm -rf "$out"
            status=0
            strace -f -qq -o /dev/null -e trace=${fault%%:*} -e inject=$fault:when=$k t5-train --device $device \
                --threads 1 -m $model -o "$out" --max-steps 2 --save-every 1 $records >"$tmp/log" 2>"$tmp/err" || status=$?
            [ $status != 0 ] || break
            [ $status = 4 ] || { echo "$fault $k: status $status"; cat "$tmp/err"; false; }
            grep -q '^t5-train: ' "$tmp/err"
            no_temporaries "$out"
            points=$((points + 1))
            train -o "$out" --max-steps 2 --save-every 1 --resume $records >"$tmp/log"
            same_result "$tmp/whole" "$out"
        done
    done
    echo "$points points"
    [ $points -gt 30 ]
}

@test "interrupted system calls are taken up again" {
    need_strace
    train -o "$tmp/whole" --max-steps 2 --save-every 1 $records >"$tmp/log"
    for k in 1 4 7 10; do
        rm -rf "$out"
        strace -f -qq -o /dev/null -e trace=write -e inject=write:error=EINTR:when=$k t5-train \
            --device $device --threads 1 -m $model -o "$out" --max-steps 2 --save-every 1 $records >"$tmp/log"
        same_result "$tmp/whole" "$out"
    done
}

@test "SIGTERM, SIGINT and SIGHUP save and end by that signal" {
    long -o "$tmp/whole" --max-steps 30 >"$tmp/whole.jsonl"
    for name in TERM INT HUP; do
        rm -rf "$out"
        : >"$tmp/log" # wait_for_steps must not count an older run's
        # bash has background jobs ignore SIGINT
        env --default-signal=INT t5-train --device $device --threads 1 -m $model --save-every 5 --eval $records -o "$out" \
            --max-steps 30 $records >"$tmp/log" 3>&- &
        job=$!
        wait_for_steps 12
        kill -$name $job
        status=0
        wait $job || status=$?
        [ $status = $((128 + $(kill -l $name))) ]
        no_temporaries "$out"
        jq -se '(.[-1].event == "stopped") and .[-1].step == (map(select(.loss)) | last.step)' "$tmp/log"
        [ ! -e "$out/adapter_model.safetensors" ]
        long -o "$out" --max-steps 30 --resume >>"$tmp/log"
        jq -se 'map(select(.event == "start")) | length == 2 and .[1].resumed_from_step >= 12' "$tmp/log"
        same_result "$tmp/whole" "$out"
        cmp <(figures "$tmp/whole.jsonl") <(figures "$tmp/log")
    done
    job=
}

@test "a second signal ends at once, the checkpoint is intact; nohup's SIGHUP is ignored" {
    : >"$tmp/log"
    t5-train --device $device --threads 1 -m $model -o "$out" --max-steps 100000 --save-every 5 $records >"$tmp/log" 3>&- &
    job=$!
    wait_for_steps 8
    for s in STOP TERM HUP CONT; do kill -$s $job; done
    status=0
    wait $job || status=$?
    [ $status = 143 ] || [ $status = 129 ]
    job=
    run ! grep -q stopped "$tmp/log"
    # whole and found: only the settings are refused
    run -1 --separate-stderr train -o "$out" --max-steps 100000 --lr 0.5 --resume $records
    [[ ${#stderr_lines[@]} == 1 && $stderr == *"another lr: "* ]]
    rm -r "$out"
    : >"$tmp/log"
    (trap '' HUP; exec t5-train --device $device --threads 1 -m $model -o "$out" --max-steps 60 $records) >"$tmp/log" 3>&- &
    job=$!
    wait_for_steps 1
    kill -HUP $job
    wait $job
    job=
}

@test "losing the reader of the log does not lose the run" {
    train -o "$tmp/whole" --max-steps 9 $records >"$tmp/log"
    run -0 --separate-stderr bash -o pipefail -c \
        "t5-train --device $device --threads 1 -m $model -o $out --max-steps 9 $records | head -1 >$tmp/log"
    same_result "$tmp/whole" "$out"
    rm -r "$out"
    run -4 --separate-stderr bash -c "t5-train --device $device --threads 1 -m $model -o $out --max-steps 9 $records >/dev/full"
    [[ ${stderr_lines[0]} == *"No space left on device: training goes on without its log" ]]
    [ "${stderr_lines[1]}" = 't5-train: <stdout>: No space left on device' ]
    same_result "$tmp/whole" "$out"
}

# ---- checkpoints ----

# A run stopped after its last checkpoint, at step 10 of 24, and what it would have become.
stopped_run() {
    long -o "$tmp/whole" >"$tmp/whole.jsonl"
    strace -f -qq -o /dev/null -e trace=rename -e inject=rename:signal=KILL:when=3 t5-train --device $device --threads 1 -m $model \
        --epochs 8 --save-every 5 --eval $records -o "$out" $records >"$tmp/log" || true
    [ -e "$out/checkpoint.0.safetensors" ]
    [ -e "$out/checkpoint.1.safetensors" ]
    cp -r "$out" "$tmp/stopped"
}

@test "checkpoints: refused without --resume, damaged ones passed over, other settings named" {
    need_strace
    stopped_run
    run -2 long -o "$out"
    [[ $output == *"--resume goes on with it"* ]]
    run -1 long -o "$out" --resume --lr 0.002
    [[ $output == *"made with another lr: 0.001"*" there, 0.002"*" here" ]]
    run -1 long -o "$out" --resume --seed 7
    [[ $output == *"another seed: 42 there, 7 here" ]]
    run -1 long -o "$out" --resume --rank 4
    [[ $output == *"another rank: 16 there, 4 here" ]]
    run -1 train -o "$out" --epochs 8 --save-every 5 --resume <(head -20 $records)
    [[ $output == *"another data: "* ]]
    model=$golden/shallow/model
    run -1 long -o "$out" --resume
    [[ $output == *"another base: "* ]]
    model=$golden/relu/model

    # the newer one damaged, at several places: the older one serves
    for at in 20 300 700 5000 30000; do
        rm -rf "$out"
        cp -r "$tmp/stopped" "$out"
        printf '\xa5' | dd of="$out/checkpoint.1.safetensors" bs=1 seek=$at conv=notrunc status=none
        run -0 --separate-stderr long -o "$out" --resume
        [[ $stderr == *"checkpoint.1.safetensors: "*"going back to checkpoint.0.safetensors at step 5" ]]
        same_result "$tmp/whole" "$out"
    done
    rm -rf "$out"
    cp -r "$tmp/stopped" "$out"
    head -c 9000 "$tmp/stopped/checkpoint.1.safetensors" >"$out/checkpoint.1.safetensors"
    run -0 --separate-stderr long -o "$out" --resume
    same_result "$tmp/whole" "$out"
    # both
    cp -r "$tmp/stopped/." "$out"
    for i in 0 1; do truncate -s 100 "$out/checkpoint.$i.safetensors"; done
    run -1 --separate-stderr long -o "$out" --resume
    [[ $stderr == *"no whole checkpoint in "* ]]
}

@test "--keep and --save-minutes: how many checkpoints, and when" {
    local steps
    step_of() { head -c 100000 "$1" | grep -ao '"step":"[0-9]*"' | head -1 | tr -dc 0-9; }
    train -o "$tmp/whole" --max-steps 12 $records >"$tmp/log"
    train -o "$out" --max-steps 12 --save-every 2 --keep 4 $records >"$tmp/log"
    steps=$(for f in "$out"/checkpoint.*; do step_of "$f"; echo; done | sort -n | tr '\n' ' ')
    [ "$steps" = '6 8 10 12 ' ]
    cmp "$tmp/whole/adapter_model.safetensors" "$out/adapter_model.safetensors"
    # back to one of them
    for f in "$out"/checkpoint.*; do [ "$(step_of "$f")" != 8 ] || cp -r "$f" "$tmp/step8"; done
    mkdir "$tmp/back"
    cp "$tmp/step8" "$tmp/back/checkpoint.17.safetensors"
    train -o "$tmp/back" --max-steps 12 --resume $records >"$tmp/log"
    jq -se '.[0].resumed_from_step == 8' "$tmp/log"
    same_result "$tmp/whole" "$tmp/back"
    # several damaged ones: the newest whole one serves
    sed -i 's/"seed":"42"/"seed":"43"/' "$out"/checkpoint.* # wrong checksums everywhere but in the copy
    cp "$tmp/step8" "$out/checkpoint.3.safetensors"
    run -0 --separate-stderr train -o "$out" --max-steps 12 --resume --keep 2 $records
    [[ $stderr == *"going back to checkpoint.3.safetensors at step 8" ]]
    [ "$(find "$out" -name 'checkpoint.*' | wc -l)" = 2 ]
    cmp "$tmp/whole/adapter_model.safetensors" "$out/adapter_model.safetensors"
    # every step is older than a millionth of a minute
    train -o "$tmp/minutes" --max-steps 6 --save-every 0 --save-minutes 0.000001 --keep 9 $records >"$tmp/log"
    [ "$(find "$tmp/minutes" -name 'checkpoint.*' | wc -l)" = 6 ]
    train -o "$tmp/steps" --max-steps 6 --save-every 0 --save-minutes 10 --keep 9 $records >"$tmp/log"
    [ "$(find "$tmp/steps" -name 'checkpoint.*' | wc -l)" = 1 ]
    run -2 train -o "$tmp/x" --keep 0 $records
    run -2 train -o "$tmp/x" --keep 101 $records
}

@test "--resume without a checkpoint starts, after the end it only writes the result again" {
    long -o "$tmp/whole" >"$tmp/log"
    long -o "$out" --resume >"$tmp/log"
    same_result "$tmp/whole" "$out"
    rm "$out/adapter_model.safetensors"
    long -o "$out" --resume >"$tmp/log"
    same_result "$tmp/whole" "$out"
    jq -se 'map(.event) == ["start", "end"] and .[0].resumed_from_step == 24' "$tmp/log"
    long -o "$out" --seed 5 >"$tmp/log" # a finished run gives way to a new one
    jq -se '.[0].resumed_from_step == null' "$tmp/log"
}

@test "a directory in use: status 4, nothing touched" {
    : >"$tmp/log"
    t5-train --device $device --threads 1 -m $model -o "$out" --max-steps 100000 $records >"$tmp/log" 3>&- &
    job=$!
    wait_for_steps 1
    run -4 --separate-stderr train -o "$out" --max-steps 3 $records
    [[ $output == '' && $stderr == "t5-train: $out: in use by pid "* ]]
    kill -9 $job
    wait $job || true
    job=
    train -o "$out" --max-steps 3 $records >"$tmp/log" # the kernel freed the lock
}

@test "an output directory that cannot be written: status 4, before the model is looked at" {
    : >"$tmp/file"
    model=$tmp/no-such-model
    run -4 --separate-stderr train -o "$tmp/file/out" $records
    [[ $stderr == "t5-train: $tmp/file/out: Not a directory" ]]
    run -4 --separate-stderr train -o "$tmp/no/such/dir" $records
    [[ $stderr == *"/no/such/dir: No such file or directory" ]]
    [ "$(id -u)" = 0 ] || return 0
    run setpriv --reuid=65534 --clear-groups t5-train --version
    [ "$status" = 0 ] || skip "nobody cannot run the programs here"
    mkdir "$out"
    chmod 755 "$tmp" "$out"
    run -4 setpriv --reuid=65534 --clear-groups t5-train --device $device --threads 1 -m "$model" -o "$out" $records
    [[ $output == *"Permission denied" ]]
}

@test "a full file system is refused before the run" {
    local private=
    mkdir "$out"
    for p in "unshare -m" "unshare -Urm"; do
        $p mount -t tmpfs -o size=100k none "$out" 2>/dev/null && private=$p && break
    done
    [ -n "$private" ] || skip "no private mounts here"
    run -4 $private bash -c "mount -t tmpfs -o size=100k none $out &&
        t5-train --device $device --threads 1 -m $model -o $out $records"
    [[ $output == *"checkpoints need "*" bytes, "*" are free" ]]
}
