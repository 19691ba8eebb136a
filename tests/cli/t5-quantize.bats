#!/usr/bin/env bats
# t5-quantize.bats - what the program writes, where, and what it refuses.

bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return 1
    golden=$PWD/testdata/golden
    model=$golden/gated/model
    tmp=$BATS_TEST_TMPDIR/files # bats itself writes into the other
    mkdir "$tmp"
}

# The header of a safetensors file as JSON.
header() {
    local n
    n=$(od -An -tu8 -N8 "$1")
    tail -c +9 "$1" | head -c "$n"
}

# Its data.
data() {
    local n
    n=$(od -An -tu8 -N8 "$1")
    tail -c +$((n + 9)) "$1"
}

@test "int8: projections with scales, the rest as it was, in one valid file" {
    t5-quantize "$model" >"$tmp/q"
    header "$tmp/q" >"$tmp/header"
    [ "$(jq -r '.__metadata__.quantization' "$tmp/header")" = int8 ]
    [ "$(jq -r '.__metadata__.format' "$tmp/header")" = pt ]
    [ "$(jq -r '.__metadata__.command' "$tmp/header")" = "t5-quantize $model" ]
    jq -r '.__metadata__.config' "$tmp/header" | cmp - <(cat "$model/config.json"; echo)
    [ "$(jq -r '.__metadata__.sha256' "$tmp/header")" = "$(data "$tmp/q" | sha256sum | cut -d' ' -f1)" ]
    jq -r 'del(.__metadata__) | to_entries[] | select(.value.dtype == "I8") | .key' "$tmp/header" | sort >"$tmp/int8"
    header "$model/model.safetensors" | jq -r 'keys[]' |
        grep -E '(Attention|DenseReluDense)\.[a-z_0-9]*\.weight' | grep -v bias | sort | cmp - "$tmp/int8"
    jq -r 'keys[] | select(endswith("_scale"))' "$tmp/header" | sed 's/_scale$//' | sort | cmp - "$tmp/int8"
}

@test "the same bytes to a file, to standard output, and with any number of threads" {
    command='t5-quantize --merge '$golden/gated/adapter-all' --report '$tmp/report' '$model
    OMP_NUM_THREADS=1 $command >"$tmp/a"
    OMP_NUM_THREADS=4 $command >"$tmp/b"
    cmp "$tmp/a" "$tmp/b"
    t5-quantize -o "$tmp/c" "$model"
    t5-quantize "$model" >"$tmp/d"
    data "$tmp/c" | cmp - <(data "$tmp/d")
    t5-quantize "$model" | cat >"$tmp/e"
    data "$tmp/c" | cmp - <(data "$tmp/e")
    [ "$(header "$tmp/e" | jq '.__metadata__ | has("sha256")')" = false ]
}

@test "the model may come through a pipe" {
    t5-quantize "$model" >"$tmp/q"
    t5-quantize -t f32 "$tmp/q" >"$tmp/a"
    cat "$tmp/q" | t5-quantize -t f32 - >"$tmp/b"
    t5-quantize -t f32 <(cat "$tmp/q") >"$tmp/c"
    data "$tmp/a" | cmp - <(data "$tmp/b")
    data "$tmp/a" | cmp - <(data "$tmp/c")
}

@test "shards and one file give the same model" {
    t5-quantize "$golden/gated/model-sharded" >"$tmp/a"
    t5-quantize "$model" >"$tmp/b"
    data "$tmp/a" | cmp - <(data "$tmp/b")
}

@test "16-bit models become f32 exactly, and stay what they are where kept" {
    for type in bf16 f16; do
        t5-quantize "$golden/gated/model-$type" >"$tmp/q"
        [ "$(header "$tmp/q" | jq -r '."shared.weight".dtype')" = "${type^^}" ]
        t5-quantize --report "$tmp/report" -t f32 -o "$tmp/f" "$golden/gated/model-$type"
        jq -e -s --arg t "${type^^}" 'all(.[]; .type_in == $t and .type_out == "F32" and .max_error == 0)' "$tmp/report"
    done
}

@test "f32 from f32 changes nothing; --to-dir keeps config.json and the data" {
    t5-quantize --to-dir "$tmp/dir" "$model"
    data "$tmp/dir/model.safetensors" | sha256sum >"$tmp/sum"
    t5-quantize -t f32 "$model" >"$tmp/f"
    data "$tmp/f" | sha256sum | cmp - "$tmp/sum"
    diff <(jq -S 'del(.dtype, .torch_dtype)' "$model/config.json") <(jq -S 'del(.dtype, .torch_dtype)' "$tmp/dir/config.json")
    t5-quantize --to-dir "$tmp/dir" -t bf16 "$model"
    [ "$(jq -r '.dtype // .torch_dtype' "$tmp/dir/config.json")" = bfloat16 ] || ! grep -q dtype "$model/config.json"
    [ "$(header "$tmp/dir/model.safetensors" | jq -r 'del(.__metadata__)[].dtype' | sort -u)" = BF16 ]
    [ "$(ls -A "$tmp/dir")" = $'config.json\nmodel.safetensors' ]
}

@test "the report: a line per tensor, errors within half a step" {
    t5-quantize --report "$tmp/report" -o "$tmp/q" "$model"
    [ "$(jq -s length "$tmp/report")" = "$(header "$model/model.safetensors" | jq 'del(.__metadata__) | length')" ]
    jq -e -s 'all(.[]; has("name") and has("shape") and .type_in == "F32" and .non_finite == 0)' "$tmp/report"
    jq -e -s 'all(.[] | select(.type_out == "I8"); .relative_rms_error > 0 and .relative_rms_error < 0.02 and
        .bytes_out == .shape[0] * .shape[1] + 4 * .shape[0])' "$tmp/report"
    jq -e -s 'all(.[] | select(.type_out == "F32"); .relative_rms_error == 0 and .bytes_in == .bytes_out)' "$tmp/report"
    [ "$(jq -s 'map(.bytes_out) | add' "$tmp/report")" = "$(data "$tmp/q" | wc -c)" ]
    t5-quantize --report - -o "$tmp/q" "$model" | cmp - "$tmp/report"
}

@test "--keep by whole components; a pattern for nothing is refused" {
    t5-quantize --keep wo=bf16 --keep lm_head=int8 "$model" >"$tmp/q"
    header "$tmp/q" | jq -r 'to_entries[] | "\(.key) \(.value.dtype)"' >"$tmp/types"
    grep -q 'DenseReluDense.wo.weight BF16' "$tmp/types"
    grep -q 'lm_head.weight I8' "$tmp/types"
    run -1 grep -q '\.wo\.weight I8' "$tmp/types"
    run -1 grep -q 'SelfAttention.o.weight BF16' "$tmp/types"
    run -2 --separate-stderr t5-quantize --keep att=bf16 "$model"
    [ "$stderr" = "t5-quantize: --keep att=bf16: matches no tensor" ]
}

@test "int8 is not made int8 again unless asked" {
    t5-quantize -o "$tmp/q" "$model"
    run -1 --separate-stderr t5-quantize "$tmp/q"
    [[ $stderr == *"is int8 already"* && ${#stderr_lines[@]} == 1 && -z $output ]]
    run -1 t5-quantize --merge "$golden/gated/adapter-qv" -o "$tmp/again" "$tmp/q"
    [ ! -e "$tmp/again" ]
    t5-quantize --requantize --merge "$golden/gated/adapter-qv" -o "$tmp/again" "$tmp/q"
    [ "$(header "$tmp/again" | jq -r .__metadata__.command | wc -l)" = 2 ]
}

# The sizes are those of man page t5-formats(5).
@test "fp8 and nf4: the same weights as int8, in one valid file, by any number of threads" {
    t5-quantize "$model" | cat >"$tmp/int8"
    header "$tmp/int8" | jq -r 'to_entries[] | select(.value.dtype == "I8") | .key' | sort >"$tmp/want"
    for type in fp8 nf4; do
        command='t5-quantize -t '$type' --merge '$golden/gated/adapter-all' --report '$tmp/report' '$model
        OMP_NUM_THREADS=1 $command >"$tmp/q"
        OMP_NUM_THREADS=4 $command | cmp <(data "$tmp/q") <(tail -c "$(data "$tmp/q" | wc -c)")
        header "$tmp/q" >"$tmp/header"
        [ "$(jq -r .__metadata__.quantization "$tmp/header")" = "$type" ]
        [ "$(jq -r .__metadata__.sha256 "$tmp/header")" = "$(data "$tmp/q" | sha256sum | cut -d' ' -f1)" ]
        jq -r 'to_entries[] | select(.value.dtype == "F8_E4M3" or .value.dtype == "U8") | .key' "$tmp/header" |
            grep -v _block | sort | cmp - "$tmp/want"
        [ "$(jq -s 'map(.bytes_out) | add' "$tmp/report")" = "$(data "$tmp/q" | wc -c)" ]
        t5-quantize --list "$tmp/q" | jq -s -e 'map(select(.name)) | length > 0' >"$tmp/list"
    done
    jq -e -s 'map(select(.type_out == "NF4")) | length > 0 and all(.[]; (.shape[0] * .shape[1]) as $n |
        .bytes_out == ($n / 2 | ceil) + ($n / 64 | ceil) + 4 * (1 + ($n / 64 / 256 | ceil)) and
        .relative_rms_error > 0.05 and .relative_rms_error < 0.15)' "$tmp/report"
}

@test "fp8 and nf4: what loads is what t5-quantize -t f32 makes of them, here and in training" {
    export OMP_NUM_THREADS=2
    for type in fp8 nf4 mixed; do
        [ $type = mixed ] && set -- -t nf4 --keep wo=fp8 --keep k=int8 --keep shared=nf4 || set -- -t $type
        t5-quantize "$@" "$model" >"$tmp/q"
        [ "$(header "$tmp/q" | jq -r .__metadata__.quantization)" = $type ]
        t5-quantize -t f32 "$tmp/q" >"$tmp/f32"
        for device in ref cpu; do
            head -n 6 "$golden/records.jsonl" >"$tmp/records"
            t5-generate --device $device --compute f32 -m "$tmp/q" "$tmp/records" >"$tmp/a"
            t5-generate --device $device --compute f32 -m "$tmp/f32" "$tmp/records" | cmp - "$tmp/a"
            for file in q f32; do
                t5-train --device $device --compute f32 -m "$tmp/$file" -o "$tmp/$device-$file" --epochs 1 --batch 3 \
                    "$tmp/records" | jq -c 'select(.loss) | [.step, .loss]' >"$tmp/$file.losses"
            done
            [ -s "$tmp/q.losses" ]
            cmp "$tmp/q.losses" "$tmp/f32.losses"
            rm -r "$tmp/$device-q" "$tmp/$device-f32"
        done
        t5-generate --device cpu --compute int8 -m "$tmp/q" "$tmp/records" >"$tmp/a" # multiplied in bf16
        t5-generate --device cpu --compute bf16 -m "$tmp/q" "$tmp/records" >"$tmp/b"
        [ $type = mixed ] || cmp "$tmp/a" "$tmp/b"
    done
    run -1 --separate-stderr t5-quantize -t int8 "$tmp/q"
    [[ $stderr == *"already (--requantize"* && ${#stderr_lines[@]} == 1 ]]
}

@test "a quantised file with a bad scale, a table cut short or a wrong type is refused by name" {
    t5-quantize -t nf4 "$model" | cat >"$tmp/q"
    name=encoder.block.0.layer.0.SelfAttention.q.weight
    header "$tmp/q" >"$tmp/header"
    # $1: what to change in the header (jq), $2 the tensor whose first bytes become $3
    spoil() {
        jq -c "$1" "$tmp/header" >"$tmp/new"
        printf "%s" "$(cat "$tmp/new")" >"$tmp/new"
        n=$(wc -c <"$tmp/new")
        { printf "$(printf '\\x%02x\\x%02x\\x%02x\\x%02x\\x%02x\\x00\\x00\\x00' $((n & 255)) $((n >> 8 & 255)) $((n >> 16 & 255)) 0 0)"
            cat "$tmp/new"
            data "$tmp/q"; } >"$tmp/bad"
        [ -z "$2" ] || printf "$3" | dd of="$tmp/bad" bs=1 conv=notrunc status=none \
            seek=$((8 + n + $(jq ".\"$2\".data_offsets[0]" "$tmp/header")))
        run -1 --separate-stderr t5-generate --device ref -m "$tmp/bad" "$golden/records.jsonl"
        [[ ${#stderr_lines[@]} == 1 && $stderr == *"$4"* ]] || { echo "$stderr" >&2; return 1; }
    }
    spoil . "${name}_scale" '\x00\x00\xc0\x7f' "'${name}_scale': element 0 is nan"
    spoil . "${name}_scale" '\x00\x00\x80\xff' "'${name}_scale': element 0 is -inf"
    spoil ".\"${name}_scale\".dtype = \"I32\"" '' '' "'${name}_scale': F32 expected, found I32"
    spoil ".\"${name}_block\".dtype = \"BOOL\"" '' '' "'${name}_block': U8 expected, found BOOL"
    spoil ".\"${name}_block\".shape = [2, 4]" '' '' "'${name}_block': shape (8) expected"
    spoil "with_entries(if .key == \"${name}_block\" then .key = \"x\" else . end)" '' '' "'$name': NF4 without its block"
    spoil '.__metadata__.quantization = "none"' '' '' "U8, but the metadata name no quantization"
    head -c -100 "$tmp/q" >"$tmp/cut"
    run -1 --separate-stderr t5-generate --device ref -m "$tmp/cut" "$golden/records.jsonl"
    [ ${#stderr_lines[@]} == 1 ]
}

# The losses are transformers', by the golden log-probabilities.
@test "--compare: a line per record, then one for all; the original's loss is the reference's" {
    t5-quantize -t nf4 -o "$tmp/q" "$model"
    t5-quantize --compare "$model" "$tmp/q" "$golden/records.jsonl" >"$tmp/lines"
    [ "$(wc -l <"$tmp/lines")" = 25 ]
    jq -e -s --slurpfile want "$golden/gated/logprobs/none.jsonl" '
        ([.[:24], $want] | transpose | all(.[]; .[0].tokens == (.[1].logprobs | length) and
            (.[0].original_loss * .[0].tokens + .[1].sum | fabs) < 1e-3)) and
        .[24].records == 24 and .[24].tokens == ($want | map(.logprobs | length) | add) and
        (.[24].original_loss * .[24].tokens + ($want | map(.sum) | add) | fabs) < 1e-2' "$tmp/lines"
    jq -e -s '.[-1] | .logits_relative_error > 0.05 and .top1_agreement < 1 and .top1_agreement > 0.3' "$tmp/lines"
    t5-quantize --compare "$model" -j 1 --device ref --records 3 "$tmp/q" <"$golden/records.jsonl" >"$tmp/three"
    [ "$(jq -c -s '[length, .[-1].records, .[2].record]' "$tmp/three")" = '[4,3,3]' ]
    jq -e -n --slurpfile a "$tmp/lines" --slurpfile b "$tmp/three" 'all(range(3);
        ($a[.].logits_relative_error / $b[.].logits_relative_error - 1 | fabs) < 1e-3)'
    t5-quantize --compare "$model" "$model" "$golden/records.jsonl" | tail -n 1 |
        jq -e '.logits_relative_error == 0 and .top1_agreement == 1 and .loss == .original_loss'
    t5-quantize --compare "$model" --compute bf16 "$model" "$golden/records.jsonl" | tail -n 1 |
        jq -e '.logits_relative_error > 0 and .logits_relative_error < 0.05'
}

@test "--compare refuses what it cannot compare, in one line" {
    refuses() { # STATUS TEXT ARGUMENT...
        run -"$1" --separate-stderr t5-quantize "${@:3}" </dev/null
        [[ ${#stderr_lines[@]} == 1 && $stderr == *"$2"* && -z $output ]] || { echo "$stderr" >&2; return 1; }
    }
    records=$golden/records.jsonl
    refuses 2 "--compare writes no model" --compare "$model" -t int8 "$model" "$records"
    refuses 2 "--compare writes no model" --compare "$model" -o "$tmp/x" "$model" "$records"
    refuses 2 "go with --compare" --records 3 "$model"
    refuses 2 "go with --compare" --device cpu "$model"
    refuses 2 "no MODEL" --compare "$model"
    refuses 1 "no records to compare on" --compare "$model" "$model"
    refuses 1 "vocabulary of 96 tokens expected" --compare "$model" testdata/demo/base "$records"
    refuses 4 "No such file" --compare "$tmp/none" "$model" "$records"
    echo '{"input_ids":[5,1]}' >"$tmp/unlabelled"
    refuses 1 'unlabelled:1:1: no "labels"' --compare "$model" "$model" "$tmp/unlabelled"
}

# Two halves of an adapter are the adapter: exactly, as a half is a power of two and what is added is added twice.
@test "--merge takes several adapters with weights" {
    qv=$golden/gated/adapter-qv all=$golden/gated/adapter-all
    t5-quantize -t f32 --merge "$qv" "$model" >"$tmp/one"
    t5-quantize -t f32 --merge "$qv=1" "$model" >"$tmp/same"
    data "$tmp/same" | cmp - <(data "$tmp/one")
    t5-quantize -t f32 "$model" >"$tmp/base"
    t5-quantize -t f32 --merge "$qv=0" --merge "$all=0" "$model" >"$tmp/none"
    data "$tmp/none" | cmp - <(data "$tmp/base")
    run ! cmp -s "$tmp/one" "$tmp/base"
    t5-quantize -t f32 --merge "$qv=0.7" --merge "$all=-0.3" --report "$tmp/report" "$model" >"$tmp/two"
    [ "$(jq -s 'map(select(.merged)) | length' "$tmp/report")" = "$(header "$all/adapter_model.safetensors" | jq '[keys[] | select(test("lora_A"))] | length')" ]
    t5-quantize -t f32 --merge "$qv=0.7" "$model" >"$tmp/first"
    t5-quantize -t f32 --merge "$all=-0.3" "$tmp/first" >"$tmp/chained"
    data "$tmp/two" | cmp - <(data "$tmp/chained")
    cp -r "$qv" "$tmp/lr=3"
    t5-quantize -t f32 --merge "$tmp/lr=3" "$model" >"$tmp/same"
    data "$tmp/same" | cmp - <(data "$tmp/one")
    t5-quantize -t f32 --merge "$tmp/lr=3=0.7" "$model" >"$tmp/same"
    data "$tmp/same" | cmp - <(data "$tmp/first")
    for bad in '' x 1x nan inf 0x1 ' 1' 1e999; do
        run -2 --separate-stderr t5-quantize --merge "$qv=$bad" "$model"
        [[ $stderr == "t5-quantize: --merge: expected a number behind '=', found"* && ${#stderr_lines[@]} == 1 && -z $output ]]
    done
    run -4 --separate-stderr t5-quantize --merge "$tmp/none/such=0.5" "$model"
    [[ $stderr == *"none/such: "* ]]
}

@test "a file of ours with a flipped bit is refused" {
    t5-quantize -o "$tmp/q" "$model"
    size=$(stat -c %s "$tmp/q")
    byte=$(tail -c 7 "$tmp/q" | head -c 1 | od -An -tu1)
    printf "\\x$(printf %02x $((byte ^ 1)))" | dd of="$tmp/q" bs=1 seek=$((size - 7)) conv=notrunc status=none
    run -1 --separate-stderr t5-quantize -t f32 "$tmp/q"
    [[ $stderr == *"q: damaged: "* && -z $output ]]
}

@test "a weight that is not finite is refused by name and index, and nothing is left" {
    cp -r "$model" "$tmp/m"
    at=$(header "$tmp/m/model.safetensors" | jq '."shared.weight".data_offsets[0]')
    n=$(od -An -tu8 -N8 "$tmp/m/model.safetensors")
    printf '\x00\x00\xc0\x7f' | dd of="$tmp/m/model.safetensors" bs=1 seek=$((8 + n + at + 4 * 7)) conv=notrunc status=none
    run -1 --separate-stderr t5-quantize --report "$tmp/report" -o "$tmp/q" "$tmp/m"
    [[ $stderr == *"m/model.safetensors: tensor 'shared.weight': element 7 is not finite" ]]
    [ "$(ls -A "$tmp")" = m ]
}

@test "an output that is the model itself: status 2, the model untouched" {
    cp -r "$model" "$tmp/m"
    ln -s m/model.safetensors "$tmp/link"
    sum=$(sha256sum <"$tmp/m/model.safetensors")
    run -2 t5-quantize -o "$tmp/m/model.safetensors" "$tmp/m"
    run -2 t5-quantize -o "$tmp/link" "$tmp/m"
    run -2 t5-quantize --report "$tmp/link" -o "$tmp/q" "$tmp/m"
    run -2 t5-quantize --to-dir "$tmp/m" "$tmp/m"
    run -2 bash -c 't5-quantize "$1/m" >>"$1/m/model.safetensors"' - "$tmp"
    [ "$(sha256sum <"$tmp/m/model.safetensors")" = "$sum" ]
    [ ! -e "$tmp/q" ]
}

@test "options that exclude each other, operands missing or too many: status 2" {
    run -2 t5-quantize
    run -2 t5-quantize a b
    run -2 t5-quantize -t int4 "$model"
    run -2 t5-quantize -o "$tmp/q" --to-dir "$tmp/d" "$model"
    run -2 t5-quantize -t int8 --to-dir "$tmp/d" "$model"
    run -2 t5-quantize --keep wo=int8 --to-dir "$tmp/d" "$model"
    run -2 t5-quantize --report - "$model"
    run -2 t5-quantize --report "$tmp/q" -o "$tmp/q" "$model"
    [ -z "$(ls -A "$tmp")" ]
}

@test "no such model, a bad one, an adapter that does not fit: one line, the right status" {
    run -4 --separate-stderr t5-quantize "$tmp/none"
    [[ $stderr == "t5-quantize: "*"none: No such file or directory" && ${#stderr_lines[@]} == 1 ]]
    mkdir "$tmp/m"
    run -1 --separate-stderr t5-quantize "$tmp/m"
    [[ $stderr == *"config.json: no such file" ]]
    cp "$model/config.json" "$tmp/m"
    head -c 1000 "$model/model.safetensors" >"$tmp/m/model.safetensors"
    run -1 --separate-stderr t5-quantize "$tmp/m"
    [[ $stderr == *"model.safetensors: ends at byte 1000, inside its header"* && ${#stderr_lines[@]} == 1 ]]
    run -1 --separate-stderr t5-quantize --merge "$golden/relu/adapter-qv" "$model"
    [[ $stderr == *"shape (4, 18) expected from r and the base, found (4, 16)"* ]]
    run -1 --separate-stderr t5-quantize "$model/model.safetensors"
    [[ $stderr == *'hold no "config"'* ]]
}

@test "a model cut at any place through a pipe is refused" {
    t5-quantize -o "$tmp/q" "$golden/relu/model"
    size=$(stat -c %s "$tmp/q")
    for n in 0 7 8 100 2000 $((size / 2)) $((size - 1)); do
        run -1 bash -c 'head -c "$1" "$2" | t5-quantize -t f32 -o "$2.out" -' - "$n" "$tmp/q"
    done
    run -1 bash -c '{ cat "$1"; echo; } | t5-quantize -t f32 -o "$1.out" -' - "$tmp/q"
    [ ! -e "$tmp/q.out" ]
}

@test "a full disk, a missing or read-only directory: status 4, the old file stays" {
    run -4 --separate-stderr bash -c 't5-quantize "$1" >/dev/full' - "$model"
    [ "$stderr" = "t5-quantize: <stdout>: No space left on device" ]
    run -4 t5-quantize -o "$tmp/no/such/q" "$model"
    run -4 t5-quantize -o /dev/full "$model"
    run -4 t5-quantize --report /dev/full -o "$tmp/q" "$model"
    echo old >"$tmp/q"
    run -4 --separate-stderr bash -c 'ulimit -f 4; t5-quantize -o "$2" "$1"' - "$model" "$tmp/q"
    [[ $stderr == *"q: File too large" ]]
    [ "$(cat "$tmp/q")" = old ]
    [ "$(ls -A "$tmp")" = q ]
}

@test "a reader that leaves ends it by SIGPIPE, quietly, ignored or not" {
    for trap in "trap - PIPE" "trap '' PIPE"; do
        run -0 --separate-stderr bash -c "$trap; "'t5-quantize "$1" | true; echo ${PIPESTATUS[0]}' - "$model"
        # a small model may fit into the pipe before true ends
        [[ $output == 141 || $output == 0 ]]
        [ -z "$stderr" ]
        run -0 --separate-stderr bash -c "$trap; "'{ sleep 0.2; t5-quantize "$1"; echo $? >&2; } | true' - "$model"
        [ "$stderr" = 141 ]
    done
}

@test "killed by a signal it leaves nothing behind" {
    mkfifo "$tmp/fifo"
    for signal in TERM INT HUP; do
        # --report opens last, and waits: the temporary file of -o is there by then
        env --default-signal=INT t5-quantize --report "$tmp/fifo" -o "$tmp/q" "$model" 2>/dev/null &
        pid=$!
        for _ in $(seq 100); do
            ls -A "$tmp" | grep -q t5tmp && break
            sleep 0.05
        done
        ls -A "$tmp" | grep -q t5tmp
        kill -$signal $pid
        wait $pid && status=0 || status=$?
        [ "$status" = $((128 + $(kill -l $signal))) ]
        [ "$(ls -A "$tmp")" = fifo ]
    done
}

@test "every write that fails leaves the old file or the new one" {
    command -v strace >/dev/null || skip "strace is not installed"
    strace -f -o /dev/null true 2>/dev/null || skip "strace cannot trace here"
    export ASAN_OPTIONS=detect_leaks=0 # a leak check cannot run under strace
    printf old >"$tmp/q"
    local failed=0
    for fault in write:error=ENOSPC fsync:error=EIO rename:error=EACCES pwrite64:error=EIO; do
        for k in 1 2 3 40 80; do
            run --separate-stderr strace -f -o /dev/null \
                -e inject="$fault:when=$k" t5-quantize -o "$tmp/q" "$golden/relu/model"
            [ "$status" = 0 ] || [ "$status" = 4 ] || { echo "$fault $k: $status $stderr"; false; }
            [ "$(ls -A "$tmp")" = q ]
            [ "$status" = 0 ] || failed=$((failed + 1))
            if [ "$status" = 0 ]; then header "$tmp/q" | jq -e . >/dev/null; fi
        done
    done
    [ "$failed" -ge 6 ] # the faults did happen
}

@test "a write that is interrupted goes on" {
    command -v strace >/dev/null || skip "strace is not installed"
    strace -f -o /dev/null true 2>/dev/null || skip "strace cannot trace here"
    export ASAN_OPTIONS=detect_leaks=0
    t5-quantize "$model" >"$tmp/a"
    strace -f -o /dev/null -e inject=write:error=EINTR:when=1+2 t5-quantize "$model" >"$tmp/b"
    cmp "$tmp/a" "$tmp/b"
}

@test "--list: metadata, then the tensors in the order of their data, as the header has them" {
    t5-quantize -o "$tmp/q" "$model"
    t5-quantize --list "$tmp/q" >"$tmp/list"
    header "$tmp/q" >"$tmp/header"
    [ "$(jq -r '.__metadata__.sha256' "$tmp/header")" = "$(head -n 1 "$tmp/list" | jq -r .metadata.sha256)" ]
    [ "$(head -n 1 "$tmp/list" | jq -r .file)" = "$tmp/q" ]
    jq -c 'del(.__metadata__) | to_entries | sort_by(.value.data_offsets)[] |
        [.key, .value.dtype, .value.shape, .value.data_offsets[1] - .value.data_offsets[0]]' "$tmp/header" >"$tmp/want"
    tail -n +2 "$tmp/list" | jq -c '[.name, .dtype, .shape, .bytes]' | cmp - "$tmp/want"
    [ "$(tail -n +2 "$tmp/list" | jq -s 'map(.bytes) | add')" = "$(data "$tmp/q" | wc -c)" ]
    t5-quantize --list - <"$tmp/q" | tail -n +2 | jq -c '[.name, .dtype, .shape, .bytes]' | cmp - "$tmp/want"
    cat "$tmp/q" | t5-quantize --list - | tail -n +2 | jq -c '[.name, .dtype, .shape, .bytes]' | cmp - "$tmp/want"
}

@test "--list: directories of shards and of adapters" {
    t5-quantize --list "$golden/gated/model-sharded" >"$tmp/list"
    jq -r '.weight_map | to_entries[] | .value + " " + .key' "$golden/gated/model-sharded/model.safetensors.index.json" |
        sort >"$tmp/want"
    jq -r 'select(.name) | .file + " " + .name' "$tmp/list" | sort | cmp - "$tmp/want"
    jq -r 'select(.metadata) | .file' "$tmp/list" | cmp - <(cut -d' ' -f1 "$tmp/want" | uniq)
    t5-quantize --list "$golden/gated/adapter-qv" | jq -e -s 'map(select(.name)) | length > 0 and
        all(.[]; .file == "adapter_model.safetensors" and (.name | test("lora_[AB]")))'
}

@test "--list: PyTorch files, alone, sharded and of adapters" {
    for dir in f32 sharded; do
        t5-quantize --list "$golden/bin/$dir" | jq -c 'select(.name) | [.name, .shape]' | sort -u >"$tmp/$dir"
        [ -s "$tmp/$dir" ]
    done
    cmp "$tmp/f32" "$tmp/sharded"
    t5-quantize --list "$golden/bin/sharded" | jq -r 'select(.metadata) | .file' |
        cmp - <(printf 'pytorch_model-0000%d-of-00002.bin\n' 1 2)
    [ "$(t5-quantize --list "$golden/bin/f16/pytorch_model.bin" | jq -r 'select(.name) | .dtype' | sort -u)" = F16 ]
    t5-quantize --list "$golden/bin/adapter" | jq -e -s 'map(select(.name)) | length > 0 and
        all(.[]; .name | test("lora_[AB]"))'
    head -c 300 "$golden/bin/f16/pytorch_model.bin" >"$tmp/pytorch_model.bin"
    run -1 --separate-stderr t5-quantize --list "$tmp"
    [[ $output == '' && ${#stderr_lines[@]} == 1 && $stderr == "t5-quantize: "*"/pytorch_model.bin: "* ]]
}

@test "--list: bad input, one line, status 1; other options beside it, status 2" {
    mkdir "$tmp/empty"
    run -1 --separate-stderr t5-quantize --list "$tmp/empty"
    [[ $output == '' && $stderr == "t5-quantize: "*"no .safetensors file in this directory, nor a .bin of PyTorch" ]]
    head -c 100 "$model/model.safetensors" >"$tmp/empty/a.safetensors"
    run -1 --separate-stderr t5-quantize --list "$tmp/empty"
    [[ $output == '' && $stderr == "t5-quantize: "*"/a.safetensors: ends at byte 100, inside its header"* ]]
    run -4 --separate-stderr t5-quantize --list "$tmp/none"
    [[ $output == '' && $stderr == "t5-quantize: "*"none: No such file or directory" ]]
    run -2 --separate-stderr t5-quantize --list -t bf16 "$model"
    [[ $output == '' && $stderr == "t5-quantize: --list "* ]]
    run -4 bash -c "t5-quantize --list $model >/dev/full"
    [ "$output" = "t5-quantize: <stdout>: No space left on device" ]
}

@test "PyTorch .bin files, single and in shards: the bytes that safetensors give" {
    for kind in safetensors f32 sharded; do
        t5-quantize "$golden/bin/$kind" >"$tmp/$kind"
        data "$tmp/$kind" >"$tmp/$kind.data"
    done
    [ -s "$tmp/f32.data" ]
    cmp "$tmp/safetensors.data" "$tmp/f32.data"
    cmp "$tmp/safetensors.data" "$tmp/sharded.data"
    for kind in safetensors f32; do
        adapter=adapter
        [ "$kind" = f32 ] || adapter=adapter-safetensors
        printf '{"id":1,"input_ids":[5,9,1]}\n' |
            t5-generate -m "$golden/bin/$kind" -a "$golden/bin/$adapter" >"$tmp/$kind.ids"
    done
    [ -s "$tmp/f32.ids" ]
    cmp "$tmp/safetensors.ids" "$tmp/f32.ids"
}

@test "a damaged .bin file is refused with one line, and leaves no output" {
    cp -r "$golden/bin/f32" "$tmp/m"
    printf 'X' | dd of="$tmp/m/pytorch_model.bin" bs=1 seek=200 conv=notrunc 2>"$tmp/dd"
    run -1 --separate-stderr t5-quantize "$tmp/m" -o "$tmp/out"
    [ -z "$output" ]
    [ "${#stderr_lines[@]}" -eq 1 ]
    [[ $stderr == *"damaged (CRC-32"* ]]
    [ ! -e "$tmp/out" ]
}
