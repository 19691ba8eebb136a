#!/usr/bin/env bats
# sweep.bats - pipelines/sweep.sh on a few of the demo's records: one table, resumed, grown, refused.

setup_file() {
    cd "$BATS_TEST_DIRNAME/../.."
    export demo="$PWD/testdata/demo" sweep="$PWD/pipelines/sweep.sh"
    head -n 64 "$demo/train.jsonl" > "$BATS_FILE_TMPDIR/train"
    head -n 20 "$demo/val.jsonl" > "$BATS_FILE_TMPDIR/valid"
}

setup() { cd "$BATS_TEST_TMPDIR"; cp -p "$BATS_FILE_TMPDIR"/{train,valid} .; }

run_sweep() { "$sweep" "$@" "$demo/base" "$demo" train valid --epochs 1; }

@test "sweep: the table is every run, the best first, and its scores are those of the pipeline by hand" {
    run_sweep -j 2 -r '2 8' -l '1e-3 1e-2' -s '42' > table.md
    cut -f 1-3 sweep-out/table.tsv | tail -n +2 | sort > cells
    printf '%s\n' $'2\t1e-2\t42' $'2\t1e-3\t42' $'8\t1e-2\t42' $'8\t1e-3\t42' | cmp - cells
    cut -f 5 sweep-out/table.tsv | tail -n +2 > scores
    sort -gr scores | cmp - scores
    [ "$(head -n 1 scores)" != "$(tail -n 1 scores)" ]
    [ "$(grep -c '^| [28] | 1e-[23] | 42 |' table.md)" = 4 ]
    [ "$(wc -l < table.md)" = 6 ]

    t5-tokenize -s "$demo" -p 'summarize: ' train | t5-train -m "$demo/base" -o one --rank 8 --alpha 16 --lr 1e-2 \
        --epochs 1 > metrics
    cmp one/adapter_model.safetensors sweep-out/r8-lr1e-2-s42/adapter/adapter_model.safetensors
    t5-tokenize -s "$demo" -p 'summarize: ' valid | t5-generate -m "$demo/base" -a one | t5-tokenize -s "$demo" --decode |
        rouge --intervals | jq -r '.rouge1.fmeasure, .rouge1.interval.fmeasure[] | . * 10000 | round / 100' |
        paste -s | cmp - <(awk '$1 == 8 && $2 == "1e-2"' sweep-out/table.tsv | cut -f 5-7)
}

@test "sweep: what failed is tried again and nothing else; more values add to the table" {
    mkdir bin
    for program in t5-tokenize t5-generate rouge; do ln -s "$(command -v $program)" bin/; done
    cat > bin/t5-train << END
#!/bin/sh
# Fails for seed 2 while ./broken is there, and tells what it was asked for.
case "\$*" in *"--seed 2 "*) [ ! -e '$PWD/broken' ] || exit 4 ;; esac
echo "\$*" | grep -o -e '--rank.*--seed [0-9]*' >> '$PWD/asked'
exec '$(command -v t5-train)' "\$@"
END
    chmod +x bin/t5-train; touch broken
    BIN=$PWD/bin run run_sweep -r 2 -l 1e-2 -s '1 2 3'
    [ "$status" -eq 1 ]
    [[ $output == *"1 of 3 runs failed"* ]]
    [ "$(wc -l < sweep-out/table.tsv)" = 3 ]
    [ "$(awk '$7 == 4' sweep-out/joblog | wc -l)" = 1 ]

    rm broken asked
    BIN=$PWD/bin run_sweep -r 2 -l 1e-2 -s '1 2 3'
    [ "$(wc -l < asked)" = 1 ]
    [ "$(wc -l < sweep-out/table.tsv)" = 4 ]
    rm asked
    BIN=$PWD/bin run_sweep -r '2 3' -l 1e-2 -s '3 1'
    [ "$(sort asked | tr '\n' ' ')" = "--rank 3 --alpha 6 --lr 1e-2 --seed 1 --rank 3 --alpha 6 --lr 1e-2 --seed 3 " ]
    [ "$(wc -l < sweep-out/table.tsv)" = 6 ]
}

@test "sweep: killed in a training, it goes on to the same table" {
    run_sweep -o whole -r '2 4' -l 1e-2 -s 42
    "$sweep" -o "$PWD/killed" -r '2 4' -l 1e-2 -s 42 "$demo/base" "$demo" train valid --epochs 1 3>&- & pid=$!
    until [ -s killed/r4-lr1e-2-s42/metrics.jsonl ]; do sleep 0.01; done
    # All at once, as when the machine goes: the sweep first, or it would call this a failed run.
    kill -KILL $pid
    for process in /proc/[0-9]*; do
        ! grep -qsF "$PWD/killed" "$process/cmdline" || kill -KILL "${process#/proc/}" || true
    done
    wait $pid || true
    [ ! -e killed/table.tsv ]
    run_sweep -o "$PWD/killed" -r '2 4' -l 1e-2 -s 42
    cmp whole/table.tsv killed/table.tsv
    [ "$(find killed -name '*.part' | wc -l)" = 0 ]
}

@test "sweep: devices, sorting by loss, and what is refused" {
    for set in train valid; do head -n 8 "$BATS_FILE_TMPDIR/$set" > $set; done
    run_sweep -d 'ref cpu' -m eval_loss -r 2 -l '1e-3 1e-2' -s 42
    [ "$(jq -r 'select(.event == "start") | .device' sweep-out/*/metrics.jsonl | sort | tr '\n' ' ')" = "cpu ref " ]
    cut -f 4 sweep-out/table.tsv | tail -n +2 > losses
    sort -g losses | cmp - losses
    run "$sweep" "$demo/base" "$demo" train valid --epochs 2
    [ "$status" -eq 2 ]
    [[ $output == *"another model, other data or options"* ]]
    touch -d 'now + 1 hour' train
    run run_sweep
    [ "$status" -eq 2 ]
    [[ $output == *"train has changed"* ]]
    for bad in "-r x" "-l a" "-j 0" "-m rouge9" "-j 2 -d cpu"; do
        # shellcheck disable=SC2086
        run run_sweep -o none $bad
        [ "$status" -eq 2 ]
        [ ! -e none ]
    done
}
