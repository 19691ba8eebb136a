#!/usr/bin/env bash
# quantize.sh - t5-quantize against cp of the same file, both to files of the same folder that do not exist yet, input in
# the page cache: a JSONL line a setting. ratio is cp's seconds over ours, each the median of interleaved runs; the floor is
# 0.5. A third of the model's bytes are embeddings, which stay f32. max_rss_mib is the most memory we took.
# T5_BENCH_SIZE: base (1 GB, the default) or large (3 GB).
set -euo pipefail
cd "$(dirname "$0")/../.."
B=${B:-build}
size=${T5_BENCH_SIZE:-base}
runs=${T5_BENCH_RUNS:-7}
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

case $size in
base) geometry='"d_model":768,"d_ff":2048,"num_layers":12,"num_heads":12' ;;
large) geometry='"d_model":1024,"d_ff":2816,"num_layers":24,"num_heads":16' ;;
*) echo "quantize.sh: T5_BENCH_SIZE is base or large" >&2; exit 2 ;;
esac
cat >"$tmp/config.json" <<CONFIG
{"model_type":"t5",$geometry,"d_kv":64,"vocab_size":32128,"relative_attention_num_buckets":32,
"relative_attention_max_distance":128,"feed_forward_proj":"gated-gelu","tie_word_embeddings":false}
CONFIG
${CC:-cc} -O2 -fopenmp -D_GNU_SOURCE -Ilibcommon -o "$tmp/random_model" tests/bench/random_model.c "$B/libt5.a" \
    -ljansson -lnettle -lm
"$tmp/random_model" "$tmp/config.json" "$tmp/model"
cat "$tmp/model/model.safetensors" >/dev/null
bytes=$(stat -c %s "$tmp/model/model.safetensors")

# Runs "$@" >out once, and adds its seconds and kilobytes to the file $log.
timed() {
    rm -f "$tmp/out"
    /usr/bin/time -a -o "$log" -f '%e %M' "$@" >"$tmp/out"
}
median() { cut -d' ' -f1 "$1" | sort -g | sed -n "$(((runs + 1) / 2))p"; }

measure() { # options of t5-quantize
    rm -f "$tmp/cp.log" "$tmp/ours.log"
    for ((i = 0; i < runs; i++)); do
        log=$tmp/cp.log timed cp "$tmp/model/model.safetensors" /dev/stdout
        log=$tmp/ours.log timed "$B/bin/t5-quantize" "$@" "$tmp/model"
    done
    jq -n -c --arg command "t5-quantize ${*//$tmp\//}" --arg size "$size" --argjson bytes "$bytes" --argjson runs "$runs" \
        --argjson out "$(stat -c %s "$tmp/out")" --argjson cp "$(median "$tmp/cp.log")" \
        --argjson ours "$(median "$tmp/ours.log")" --argjson rss "$(cut -d' ' -f2 "$tmp/ours.log" | sort -g | tail -n 1)" \
        --arg cpu "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" --argjson cores "$(nproc)" \
        '{bench: "quantize", command: ($command | rtrimstr(" ")), model: "FLAN-T5-\($size) geometry, f32", bytes_in: $bytes,
          bytes_out: $out, seconds: $ours, mb_per_s: ($bytes / 1e6 / $ours | round), cp_seconds: $cp,
          ratio_to_cp: ($cp / $ours * 100 | round / 100), floor: 0.5, max_rss_mib: ($rss / 1024 | round),
          runs: $runs, cpu: $cpu, cores: $cores}'
}

measure
measure -t bf16
measure --report "$tmp/report"
