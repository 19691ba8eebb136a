#!/usr/bin/env bats
# shards.bats - pipelines/shards.sh: what it writes is what one process writes, byte for byte.

setup_file() {
    cd "$BATS_TEST_DIRNAME/../.."
    export demo="$PWD/testdata/demo" shards="$PWD/pipelines/shards.sh" tokens="$BATS_FILE_TMPDIR/tokens"
    t5-tokenize -s "$demo/spiece.model" -p 'summarize: ' "$demo/test.jsonl" | head -n 160 > "$tokens"
}

setup() { cd "$BATS_TEST_TMPDIR"; }

@test "shards: processes: greedy, beams and samples, whatever the shard's size" {
    for search in "" "--beams 3 -n 2" "--sample --top-p 0.9 --seed 7"; do
        # shellcheck disable=SC2086
        t5-generate -m "$demo/base" $search "$tokens" > whole
        [ "$(wc -l < whole)" -ge 160 ]
        for records in 17 1000; do
            # shellcheck disable=SC2086
            "$shards" -n $records -j 2 "$tokens" -m "$demo/base" $search | cmp whole -
        done
    done
    t5-generate -m "$demo/base" "$tokens" > whole
    "$shards" -n 50 - -m "$demo/base" < "$tokens" | cmp whole -
    "$shards" - -m "$demo/base" < /dev/null | cmp /dev/null -
}

@test "shards: devices: each process has one that no other running process has" {
    mkdir bin
    cat > bin/t5-generate << 'END'
#!/bin/sh
# Says which device it was given and is busy on it for a while.
while [ "$1" != --device ]; do shift; done
mkdir "$LOCKS/$2" || exit 9
cat > /dev/null; sleep 0.1
rmdir "$LOCKS/$2"
echo "$2"
END
    chmod +x bin/t5-generate
    LOCKS=$PWD BIN=$PWD/bin "$shards" -n 20 -d 'cuda:0 cuda:1 cuda:2' "$tokens" -m model > devices
    [ "$(wc -l < devices)" -eq 8 ]
    [ "$(sort -u devices | tr '\n' ' ')" = "cuda:0 cuda:1 cuda:2 " ]
}

@test "shards: devices: the same bytes" {
    t5-generate -m "$demo/base" "$tokens" > whole
    "$shards" -n 50 -d 'cpu cpu' "$tokens" -m "$demo/base" | cmp whole -
}

@test "shards: hosts: the same bytes through ssh's pipe" {
    printf '%s\n' '#!/bin/sh' '# An ssh to hosts that are all this one.' \
        'echo "$1" >> "$HOSTS"' '[ "$2" = -- ] || exit 255' 'shift 2; exec sh -c "$*"' > ssh
    chmod +x ssh
    t5-generate -m "$demo/base" --sample "$tokens" > whole
    for shell in SHELL=/bin/sh SHELL=/bin/false --unset=SHELL; do
        env "$shell" HOSTS="$PWD/hosts" PARALLEL_SSH="$PWD/ssh" \
            "$shards" -n 30 -j 1 -S node1,node2 "$tokens" -m "$demo/base" --sample | cmp whole -
    done
    [ "$(sort -u hosts | tr '\n' ' ')" = "node1 node2 " ]
}

@test "shards: a shard that fails ends the run with its status" {
    sed '150s/"input_ids":\[/&-1,/' "$tokens" > bad
    run "$shards" -n 10 bad -m "$demo/base"
    [ "$status" -eq 1 ]
    [[ $output == *"t5-generate: <stdin>:10:"* ]]
    run "$shards" "$tokens" -m missing
    [ "$status" -eq 4 ]
    run "$shards" missing -m "$demo/base"
    [ "$status" -ne 0 ]
}

@test "shards: usage" {
    run "$shards" --help
    [ "$status" -eq 0 ]
    [[ $output == *"usage: pipelines/shards.sh"* ]]
    for bad in "" "-j 0 x -m y" "-n some x -m y" "-j 3 -d cpu x -m y" "-S a -d 'c d' x -m y" "-q x -m y"; do
        eval run '"$shards"' "$bad"
        [ "$status" -eq 2 ]
    done
}
