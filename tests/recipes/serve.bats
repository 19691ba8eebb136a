#!/usr/bin/env bats
# serve.bats - pipelines/serve.sh: what a socket answers is what the pipeline writes.

setup_file() {
    cd "$BATS_TEST_DIRNAME/../.."
    export demo="$PWD/testdata/demo" serve="$PWD/pipelines/serve.sh" OMP_NUM_THREADS=1
    cd "$BATS_FILE_TMPDIR"
    jq -r '.dialogue | gsub("[\r\n]+"; " ")' "$demo/test.jsonl" > lines
    jq -cR '{dialogue: .}' lines | t5-tokenize -s "$demo" -p 'summarize: ' --max-source 512 |
        t5-generate -m "$demo/base" | t5-tokenize -s "$demo" --decode | jq -r .prediction > summaries
}

setup() { cd "$BATS_TEST_TMPDIR"; cp "$BATS_FILE_TMPDIR"/{lines,summaries} .; }

teardown() { [ -z "${service:-}" ] || { kill "$service" 2> /dev/null && wait "$service"; } || true; }

start() { # with options of serve.sh; "$service" is the process
    TMPDIR=$PWD "$serve" "$@" "$demo" -m "$demo/base" 2> log 3>&- & service=$!
    until grep -qs ready log; do kill -0 $service; sleep 0.05; done
    until [ -n "$*" ] || [ -S t5.socket ]; do sleep 0.02; done
}

children() { cat "/proc/$1/task/$1/children"; }

ask() { socat -t 30 - UNIX-CONNECT:t5.socket; }

@test "serve: many lines on a connection, as the pipeline summarises them; then another connection" {
    start
    head -n 50 lines | ask | cmp - <(head -n 50 summaries)
    tail -n 1 lines | ask | cmp - <(tail -n 1 summaries)
    printf %s "$(tail -n 1 lines)" | tr -d '\n' | ask | cmp - <(tail -n 1 summaries)
}

@test "serve: connections at the same time each have their own answers" {
    start
    mkdir got want
    split -n l/10 -d lines part.
    pids=()
    for part in part.*; do ask < "$part" > "got/$part" & pids+=($!); done
    for pid in "${pids[@]}"; do wait "$pid"; done
    cat got/* | cmp - summaries
    [ "$(wc -l < summaries)" = 200 ]
}

@test "serve: whatever a client sends or does, the next is answered" {
    start
    { head -c 3000 /dev/urandom | tr -d '\n'; echo; printf 'a\0b\tc\r\n'; echo '{"to": "1"}'; echo; } > odd
    [ "$(ask < odd | wc -l)" = 4 ]
    head -c 300000 /dev/zero | tr '\0' 'x' > long
    [ "$({ cat long; echo; } | ask | wc -l)" = 1 ]
    for i in 1 2 3; do cat lines | timeout -s KILL 0.0$((i * 3)) socat - UNIX-CONNECT:t5.socket > cut || true; done
    head -n 3 lines | ask | cmp - <(head -n 3 summaries)
}

@test "serve: TCP, and a text cut to -n tokens" {
    port=$((20000 + RANDOM % 20000))
    start -l "TCP-LISTEN:$port,reuseaddr,bind=127.0.0.1" -n 12
    for _ in {1..50}; do head -n 5 lines | socat -t 30 - "TCP:127.0.0.1:$port" > got && break; sleep 0.1; done
    head -n 5 lines | jq -cR '{dialogue: .}' | t5-tokenize -s "$demo" -p 'summarize: ' --max-source 12 |
        t5-generate -m "$demo/base" | t5-tokenize -s "$demo" --decode | jq -r .prediction | cmp - got
}

@test "serve: it ends whole, with the status of what ended it" {
    start
    head -n 1 lines | ask | cmp - <(head -n 1 summaries)
    kill $service
    status=0; wait $service || status=$?
    [ "$status" -eq 143 ]
    [ ! -e t5.socket ]
    [ -z "$(find . -maxdepth 1 -name 'tmp.*')" ]
    run ask < lines
    [ "$status" -ne 0 ]

    run "$serve" "$demo" -m missing
    [ "$status" -eq 4 ]
    [[ $output == *"t5-generate: missing: No such file or directory"* ]]
    [[ $output != *ready* ]]
    run "$serve" missing -m "$demo/base"
    [ "$status" -ne 0 ]
    run "$serve" "$demo"
    [ "$status" -eq 2 ]

    # The death of a program is the end of the service, and of the connections.
    start
    (head -n 1 lines; sleep 3) 3>&- | ask > got 3>&- & asking=$!
    until [ -s got ]; do sleep 0.02; done
    for stage in $(children $service); do
        for process in $(children "$stage"); do
            [ "$(cat "/proc/$process/comm")" != t5-generate ] || kill "$process"
        done
    done
    status=0; wait $service || status=$?
    [ "$status" -eq 143 ]
    [ -z "$(find . -maxdepth 1 -name 'tmp.*')" ]
    wait $asking
    service=''
}
