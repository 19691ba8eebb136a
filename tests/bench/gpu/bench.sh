#!/usr/bin/env bash
# bench.sh - t5-tools on one NVIDIA card with FLAN-T5-XXL's geometry and random weights, beside transformers + peft in the same
# run. One JSONL line a figure; at the end a line for each comparison, with the ratio and what is wanted.
#
# usage: bench.sh [STAGE]...     stages, in this order [all]:
#   model      write the model (22 GB in T5_BENCH_DIR) and its int8 file (11 GB), where they are missing
#   rates      the card's sustained rate of large products
#   train      LoRA training: batch 8 and 64 of real lengths, batch 32 padded to 256 + 56; bf16, int8, fp8
#   memory     peak memory: batch 8 with int8 weights kept, capped at 22 GiB; generation capped at 14 GiB
#   generate   batch 1; all records, greedy and beam 4, 25 tokens
#   pipeline   tokenise, quantise, one epoch, summaries, ROUGE: seconds of each (needs T5_TEST_DATA)
#   peer       the peer's settings (PEERS: which) [see peer.py]
#   compare    the ratios, from the lines of the stages before
#
# TOKENS: token records of SAMSum's validation part (made from T5_TEST_DATA: samsum/val.jsonl, t5/spiece.model, where not given).
# T5_PEER_PYTHON: a Python with torch, transformers and peft [python3]. T5_BENCH_DIR [/dev/shm]. LINES: the file that figures
# are added to [T5_BENCH_DIR/bench.jsonl]. What was chosen among algorithms is kept in T5_BENCH_DIR/cache meanwhile, not where runs
# keep it.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
build=${B:-$here/../../../build}
bin=$build/bin dir=${T5_BENCH_DIR:-/dev/shm} python=${T5_PEER_PYTHON:-python3} data=${T5_TEST_DATA:-../shared/data}
lines=${LINES:-$dir/bench.jsonl} tokens=${TOKENS:-$dir/val.tokens} model=$dir/xxl int8=$dir/xxl8.safetensors
PEERS=${PEERS:-"train-eager-8 train-eager-32-padded train-eager-32 generate-1 generate-greedy generate-beam4 train-compile-8 train-compile-32"}
tmp=$(mktemp -d)
export XDG_CACHE_HOME=$dir/cache
mkdir -p "$XDG_CACHE_HOME"
trap 'rm -rf "$tmp"' EXIT
seconds() { local from=$EPOCHREALTIME; "$@"; local rc=$?; taken=$(awk "BEGIN { print $EPOCHREALTIME - $from }"); return $rc; }
say() { tee -a "$lines"; }
fail() { echo "bench.sh: $*" >&2; }

# Runs a program; sets peak, the most memory of the card in use meanwhile (GiB, everything on it), and taken.
watched() {
    nvidia-smi --query-gpu=memory.used --format=csv,noheader,nounits -lms 100 >"$tmp/memory" &
    local watcher=$!
    seconds "$@"
    local rc=$?
    kill $watcher; wait $watcher 2>/dev/null
    peak=$(sort -g "$tmp/memory" | tail -n 1 | awk '{ print $1 / 1024 }')
    return $rc
}

make_model() {
    cat >"$tmp/config.json" <<'JSON'
{"architectures": ["T5ForConditionalGeneration"], "model_type": "t5", "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_heads": 64,
 "num_layers": 24, "num_decoder_layers": 24, "vocab_size": 32128, "feed_forward_proj": "gated-gelu", "dropout_rate": 0.1,
 "layer_norm_epsilon": 1e-06, "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
 "tie_word_embeddings": false, "is_encoder_decoder": true, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
JSON
    [ -e "$model/config.json" ] || "$build/bench/random_model" "$tmp/config.json" "$model" || return 1
    [ -e "$int8" ] || { seconds "$bin/t5-quantize" -o "$int8" "$model" && jq -cn --argjson s "$taken" '{bench: "quantise", seconds: $s}' | say; }
    [ -e "$tokens" ] || "$bin/t5-tokenize" -s "$data/t5/spiece.model" -p 'summarize: ' --max-source 255 --max-target 50 \
        "$data/samsum/val.jsonl" >"$tokens"
}

# Operations that training needs, forward and back (no gradient of frozen weights, no recomputation), over what a step took:
# 21.70 GFLOP a source token, 22.23 a target token, 1.38e6 (S^2 + S T + T^2).
train() { # NAME COMPUTE BATCH STEPS SKIP FILE [OPTION...]
    local name=$1 compute=$2 batch=$3 steps=$4 skip=$5 file=$6
    shift 6
    rm -rf "$tmp/out"
    watched "$bin/t5-train" --device cuda --compute "$compute" -m "$int8" -o "$tmp/out" --order file --batch "$batch" --max-steps "$steps" \
        --save-every 0 "$@" "$file" >"$tmp/log" 2>"$tmp/err" || { fail "train $name: $(tail -n 1 "$tmp/err")"; return; }
    jq -c -s --arg name "$name" --arg compute "$compute" --argjson batch "$batch" --argjson skip "$skip" --argjson peak "$peak" \
        --slurpfile r <(head -n 100000 "$file" | jq -c '[(.input_ids | length), (.labels | length)]') '
        map(select(.loss)) as $s | ($r | length) as $n
        | ([range($skip; $s | length)] | map(. * $batch % (($n / $batch | ceil) * $batch)) ) as $starts
        | [$starts[] as $i | $r[$i:$i + $batch][]] as $done
        | ($s[-1].seconds - $s[$skip - 1].seconds) as $t
        | ([$done[] | 21.70e9 * .[0] + 22.23e9 * .[1] + 1.38e6 * (.[0] * .[0] + .[0] * .[1] + .[1] * .[1])] | add) as $ops
        | {bench: "train", setting: $name, compute: $compute, batch: $batch, steps: ($starts | length), records_per_s: (($done | length) / $t * 100 | round / 100),
           ms_per_step: ($t / ($starts | length) * 1e4 | round / 10), TFLOP_per_s: ($ops / $t / 1e12 | round), five_epochs_s: (73660 * $t / ($done | length) | round),
           first_step_s: $s[0].seconds, peak_GiB: ($peak * 100 | round / 100), loss: $s[-1].loss}' "$tmp/log" | say
}

training() {
    # As long as the peer's padded shapes: what packing gives is not counted.
    jq -c '.input_ids |= (. + [range(256)])[:256] | .labels |= (. + [range(100; 156)])[:56]' "$tokens" >"$tmp/padded"
    # A run of five epochs pays once for timing the products' algorithms, one of 26 steps pays as much: measured apart. 8 bits time none.
    train "real lengths, algorithms not yet chosen" bf16 64 26 4 "$tokens"
    train "256 + 56, algorithms not yet chosen" bf16 32 16 4 "$tmp/padded"
    for compute in bf16 int8 fp8; do
        train "real lengths" $compute 8 100 10 "$tokens"
        train "real lengths" $compute 64 26 4 "$tokens"
        train "256 + 56" $compute 32 16 4 "$tmp/padded"
    done
}

memory() {
    train "int8 weights kept, 17 GiB" bf16 8 12 4 "$tokens" --max-memory 17GiB
    train "int8 weights kept, 17 GiB" int8 8 12 4 "$tokens" --max-memory 17GiB
    train "22 GiB" bf16 8 12 4 "$tokens" --max-memory 22GiB
    for compute in bf16 int8; do
        watched "$bin/t5-generate" --device cuda --compute $compute -m "$int8" --max-memory 14GiB --max-new-tokens 25 "$tokens" >"$tmp/log" 2>"$tmp/err" ||
            { fail "generate in 14 GiB: $(tail -n 1 "$tmp/err")"; return; }
        jq -cn --arg compute $compute --argjson peak "$peak" --argjson s "$taken" '{bench: "generate", setting: "14 GiB", compute: $compute, peak_GiB: $peak, seconds: $s}' | say
    done
}

generate() { # NAME RECORDS NEW [OPTION...]
    local name=$1 records=$2 new=$3
    shift 3
    head -n "$records" "$tokens" >"$tmp/in"
    watched "$bin/t5-generate" --device cuda -m "$int8" --stats --min-new-tokens "$new" --max-new-tokens "$new" "$@" "$tmp/in" >"$tmp/log" 2>"$tmp/err" ||
        { fail "generate $name: $(tail -n 1 "$tmp/err")"; return; }
    grep '^{' "$tmp/err" | jq -c --arg name "$name" --argjson new "$new" --argjson peak "$peak" \
        '{bench: "generate", setting: $name, records, seconds, records_per_s, ms_per_token: (.seconds / .records / $new * 1e6 | round / 1e3), peak_GiB: $peak}' | say
}

generation() {
    generate "batch 1" 40 50 --batch-tokens 1 --compute bf16 # each record by itself
    generate "greedy" 100000 25 --compute bf16
    generate "beam 4" 100000 25 --beams 4 --compute bf16
    generate "batch 1, int8" 40 50 --batch-tokens 1 --compute int8
    for compute in int8 fp8; do
        generate "greedy, $compute" 100000 25 --compute $compute
        generate "beam 4, $compute" 100000 25 --beams 4 --compute $compute
    done
}

pipeline() {
    [ -e "$data/samsum/val.jsonl" ] || { fail "pipeline: no $data/samsum/val.jsonl"; return; }
    local p=$tmp/pipeline
    mkdir -p "$p"
    stage() { local name=$1; shift; seconds "$@" || { fail "pipeline: $name failed"; return 1; }; jq -cn --arg n "$name" --argjson s "$taken" '{bench: "pipeline", stage: $n, seconds: ($s * 100 | round / 100)}' | say; }
    stage tokenise sh -c '"$1" -s "$2/t5/spiece.model" -p "summarize: " --max-source 255 --max-target 50 -o "$3" "$2/samsum/val.jsonl"' - "$bin/t5-tokenize" "$data" "$p/tokens" &&
    stage quantise "$bin/t5-quantize" -o "$dir/pipeline.safetensors" "$model" &&
    stage "train one epoch" sh -c '"$1" --device cuda --compute bf16 -m "$2" -o "$3/adapter" --epochs 1 "$3/tokens" >"$3/train.log"' - "$bin/t5-train" "$dir/pipeline.safetensors" "$p" &&
    stage generate sh -c '"$1" --device cuda -m "$2" -a "$3/adapter" "$3/tokens" >"$3/ids"' - "$bin/t5-generate" "$dir/pipeline.safetensors" "$p" &&
    stage detokenise sh -c '"$1" -s "$2/t5/spiece.model" --decode "$3/ids" >"$3/predictions"' - "$bin/t5-tokenize" "$data" "$p" &&
    stage score sh -c '"$1" "$2/predictions" >"$2/scores"' - "$bin/rouge" "$p"
    rm -f "$dir/pipeline.safetensors"
}

peer() {
    PYTHONUNBUFFERED=1 "$python" "$here/peer.py" "$model" "$tokens" $1 2>"$tmp/err" | jq -c --unbuffered '. + {peer: true}' | say
    [ "${PIPESTATUS[0]}" = 0 ] || fail "peer: $(tail -n 1 "$tmp/err")"
}

# [what, ours (bench, setting, compute, batch), peer's setting, the least ratio wanted, aim]
compare() {
    jq -c -s '
        . as $all
        | def ours(s; c; b): [$all[] | select(.peer | not) | select(.bench == "train" and .setting == s and .compute == c and .batch == b)][-1].records_per_s;
          def made(s; f): [$all[] | select(.peer | not) | select(.bench == "generate" and .setting == s)][-1] // {} | f;
          def made(s): made(s; .records_per_s);
          def theirs(s; f): [$all[] | select(.peer and .bench == s)][-1] // {} | f;
          def theirs(s): theirs(s; .records_per_s);
          def rate($c): [$all[] | select(.bench == "rate" and .compute == $c)][-1].TFLOP_per_s;
          def line(what; x; y; must; aim): if x and y then {compare: what, ours: x, peer: y, ratio: (x / y * 100 | round / 100), must: must, aim: aim} else empty end;
          def sustained($c): rate(if $c == "int8" then "fp8" else $c end); # the rate of the peer'"'"'s products in 8 bits
          (("bf16", "int8", "fp8") as $c | def wanted(two; eight): if $c == "bf16" then two else eight end;
              line("train, batch 8, \($c), against eager, batch 8, the recipe'"'"'s"; ours("real lengths"; $c; 8); theirs("train-eager-8"); wanted(7; 8); wanted(9; 12)),
              line("train, batch 8, \($c), against torch.compile, batch 8"; ours("real lengths"; $c; 8); theirs("train-compile-8"); wanted(2.3; 2.7); wanted(3; 3.8)),
              line("train, batch 64, \($c), against eager, batch 32, padded"; ours("real lengths"; $c; 64); theirs("train-eager-32-padded"); wanted(4; 6); wanted(5; 8)),
              line("train, batch 64, \($c), against eager, batch 32, length-grouped"; ours("real lengths"; $c; 64); theirs("train-eager-32"); null; null),
              line("train, padded, \($c), against torch.compile, batch 32"; ours("256 + 56"; $c; 32); theirs("train-compile-32"); wanted(1.3; 1.8); wanted(1.7; 2.5))),
          (("", ", int8") as $c | line("generate, tokens a second at batch 1\($c)"; made("batch 1\($c)"; .ms_per_token | values | 1000 / .) // null; theirs("generate-1"; .ms_per_token | values | 1000 / .) // null; null; null)),
          (("", ", int8", ", fp8") as $c |
              line("generate, greedy\($c), against batch 64"; made("greedy\($c)"); theirs("generate-greedy"); 5; null),
              line("generate, beam 4\($c), against batch 64"; made("beam 4\($c)"); theirs("generate-beam4"); 5; null)),
          ($all[] | select(.bench == "train" and (.peer | not) and .batch >= 32 and sustained(.compute)) |
              {share_of_sustained_rate: "\(.setting), batch \(.batch), \(.compute)", TFLOP_per_s, sustained: sustained(.compute), share: (.TFLOP_per_s / sustained(.compute) * 1000 | round / 1000),
               must: (if .compute == "bf16" then 0.75 else 0.62 end)})' "$lines"
}

touch "$lines"
for stage in ${@:-model rates train memory generate pipeline peer compare}; do
    case $stage in
    model) make_model || exit 1 ;;
    rates) peer rates ;;
    train) training ;;
    memory) memory ;;
    generate) generation ;;
    pipeline) pipeline ;;
    peer) peer "$PEERS" ;;
    compare) compare ;;
    *) fail "no stage '$stage'"; exit 2 ;;
    esac
done
