#!/usr/bin/env bats
# settings.bats - what token files say of themselves and adapters of their base: carried from t5-tokenize through t5-train
# into adapters and models, compared by t5-train and t5-generate; the base that an adapter was trained on.

bats_require_minimum_version 1.5.0

# A base model whose vocabulary fits both tokenizers, made once.
setup_file() {
    cd "$BATS_TEST_DIRNAME/../.." || return 1
    export dir=$BATS_FILE_TMPDIR
    jq '.vocab_size = 1408 | .num_layers = 1 | .num_decoder_layers = 1' testdata/golden/gated/model/config.json >"$dir/config.json"
    for i in 1 2 3 4 5 6; do echo "{\"dialogue\":\"Anna says $i\",\"summary\":\"hello $i\",\"a\":\"b\"}"; done >"$dir/text"
    tokens -p 'summarize: ' "$dir/text" >"$dir/packed"
    t5-tokenize -s testdata/golden/tokenizer/spiece.model -p 'summarize: ' "$dir/text" >"$dir/lines"
    t5-train --device ref --from-config "$dir/config.json" --max-steps 1 --batch 6 -o "$dir/base" "$dir/lines" >"$dir/log"
    train -o "$dir/adapter" "$dir/packed" >"$dir/log"
}

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return 1
    tmp=$BATS_TEST_TMPDIR
}

tokens() { t5-tokenize -s testdata/golden/tokenizer/spiece.model --to safetensors "$@"; }
train() { t5-train --device ref -m "$dir/base" --rank 1 --max-steps 2 --batch 6 --save-every 0 "$@"; }
generate() { t5-generate --device ref -m "$dir/base" --max-new-tokens 2 "$@"; }
metadata() { tail -c +9 "$1" | head -c $(($(od -An -tu8 -N8 "$1"))) | jq -c -S '.__metadata__'; }

@test "an adapter carries the settings of the tokens it was trained on; of JSON lines there are none" {
    [ "$(metadata "$dir/adapter/adapter_model.safetensors" | jq -c 'with_entries(select(.key | startswith("tokens.")) | .key |= ltrimstr("tokens."))')" = \
        "$(metadata "$dir/packed" | jq -c 'del(.format, .source, .target, .sha256, .tokenizer_size)')" ]
    [ "$(jq 'has("prefix") or has("tokens")' "$dir/adapter/adapter_config.json")" = false ]
    train -o "$tmp/a" "$dir/lines" >"$tmp/log"
    [ "$(metadata "$tmp/a/adapter_model.safetensors" | jq '[keys[] | select(startswith("tokens."))] | length')" = 0 ]
    cmp "$tmp/a/adapter_config.json" "$dir/adapter/adapter_config.json"
    # carried on through --init, and through a checkpoint
    run -0 --separate-stderr t5-train --device ref -m "$dir/base" --max-steps 1 --init "$dir/adapter" -o "$tmp/b" "$dir/packed"
    [ -z "$stderr" ]
    [ "$(metadata "$tmp/b/checkpoint.0.safetensors" | jq -r '.["tokens.prefix"]')" = 'summarize: ' ]
}

@test "t5-generate: no word where tokens are as in training, or say nothing; one line where they are not" {
    generate -a "$dir/adapter" "$dir/packed" >"$tmp/want"
    for same in "$dir/packed" "$dir/lines"; do
        run -0 --separate-stderr generate --strict-settings -a "$dir/adapter" "$same"
        [ -z "$stderr" ]
        [ "${#lines[@]}" = 6 ]
    done
    tokens -p 'summarize: ' --max-source 20 --max-target 9 --on-long error "$dir/text" >"$tmp/limits"
    run -0 --separate-stderr generate --strict-settings -a "$dir/adapter" "$tmp/limits"
    [ -z "$stderr" ]
    differs() { # WHAT FILE
        run -0 --separate-stderr generate -a "$dir/adapter" "$2"
        [ "$stderr" = "t5-generate: $2: not as $dir/adapter was trained: $1" ]
        [ "${#lines[@]}" = 6 ]
        run -1 --separate-stderr generate --strict-settings -a "$dir/adapter" "$2"
        [ "$stderr" = "t5-generate: $2: not as $dir/adapter was trained: $1" ]
        [ -z "$output" ]
    }
    tokens "$dir/text" >"$tmp/t"
    differs "prefix 'summarize: ' there, '' here" "$tmp/t"
    tokens --template 'summarize: {dialogue}' "$dir/text" >"$tmp/t"
    differs "prefix 'summarize: ' there, none here" "$tmp/t"
    tokens -p 'summarize: ' --segmentation sentencepiece "$dir/text" >"$tmp/t"
    differs "segmentation 'viterbi' there, 'sentencepiece' here" "$tmp/t"
    tokens -p 'summarize: ' --special-in-text "$dir/text" >"$tmp/t"
    differs "special_in_text 'false' there, 'true' here" "$tmp/t"
    t5-tokenize -s testdata/demo/spiece.model --to safetensors -p 'summarize: ' "$dir/text" >"$tmp/t"
    differs "another tokenizer (SHA-256 $(sha256sum <testdata/golden/tokenizer/spiece.model | head -c 12)... there, $(
        sha256sum <testdata/demo/spiece.model | head -c 12)... here)" "$tmp/t"
    # a long one with bytes that a terminal would obey
    tokens -p "$(printf '\033[2J%0200d' 7)" "$dir/text" >"$tmp/t"
    run -0 --separate-stderr generate -a "$dir/adapter" "$tmp/t"
    [ "${#stderr_lines[@]}" = 1 ]
    [ "${#stderr}" -lt 400 ]
    [[ $stderr == *'\x1b[2J0'*"...' here" ]]
    tokens -p "$(printf 'aé%.0s' {1..40})" "$dir/text" >"$tmp/t" # not cut inside a character
    run -0 --separate-stderr generate -a "$dir/adapter" "$tmp/t"
    [[ $stderr == *"aé...' here" ]]
    iconv -f UTF-8 -t UTF-8 <<<"$stderr" >/dev/null
}

@test "t5-generate: of several adapters the one that differs is named; --score looks, too; through a pipe as well" {
    tokens -p 'say: ' "$dir/text" >"$tmp/say"
    train -o "$tmp/other" "$tmp/say" >"$tmp/log"
    run -0 --separate-stderr generate -a x="$dir/adapter" -a y="$tmp/other" "$tmp/say"
    [ "$stderr" = "t5-generate: $tmp/say: not as x=$dir/adapter was trained: prefix 'summarize: ' there, 'say: ' here" ]
    run -1 --separate-stderr generate -a "$dir/adapter" --strict-settings --score "$dir/packed" "$tmp/say"
    [[ $stderr == "t5-generate: $tmp/say: not as "* ]]
    [ "${#stderr_lines[@]}" = 1 ]
    run -1 --separate-stderr bash -c "t5-generate --device ref -m '$dir/base' -a '$dir/adapter' --strict-settings <'$tmp/say'"
    [[ $stderr == "t5-generate: <stdin>: not as "* ]]
    run -1 --separate-stderr bash -c "cat '$tmp/say' | t5-generate --device ref -m '$dir/base' -a '$dir/adapter' --strict-settings"
    [[ $stderr == "t5-generate: <stdin>: not as "* ]]
}

@test "a model trained in full carries them through t5-quantize, a merged one its adapter's" {
    t5-train --device ref -m "$dir/base" --full --max-steps 1 --save-every 0 -o "$tmp/full" "$dir/packed" >"$tmp/log"
    t5-quantize -o "$tmp/int8" "$tmp/full"
    t5-quantize -t f32 -o "$tmp/merged" --merge "$dir/adapter" "$dir/base"
    tokens -p 'say: ' "$dir/text" >"$tmp/say"
    for model in "$tmp/full" "$tmp/int8" "$tmp/merged"; do
        run -0 --separate-stderr t5-generate --device ref -m "$model" --max-new-tokens 2 "$tmp/say"
        [ "$stderr" = "t5-generate: $tmp/say: not as $model was trained: prefix 'summarize: ' there, 'say: ' here" ]
        run -0 --separate-stderr t5-generate --device ref -m "$model" --max-new-tokens 2 --strict-settings "$dir/packed"
        [ -z "$stderr" ]
    done
    run -0 --separate-stderr generate --strict-settings "$tmp/say" # the base was trained on JSON lines
    [ -z "$stderr" ]
}

@test "t5-train: another tokenizer is refused, another prefix warned of, in an eval file and among training files" {
    tokens -p 'say: ' "$dir/text" >"$tmp/say"
    t5-tokenize -s testdata/demo/spiece.model --to safetensors -p 'summarize: ' "$dir/text" >"$tmp/demo"
    for how in --eval ''; do
        # shellcheck disable=SC2086
        run -0 --separate-stderr train -o "$tmp/a" "$dir/packed" $how "$tmp/say"
        [ "$stderr" = "t5-train: $tmp/say: not as the first training file: prefix 'summarize: ' there, 'say: ' here" ]
        # shellcheck disable=SC2086
        run -1 --separate-stderr train -o "$tmp/b" "$dir/packed" $how "$tmp/demo"
        [[ $stderr == "t5-train: $tmp/demo: not as the first training file: another tokenizer"* ]]
        [ "${#stderr_lines[@]}" = 1 ]
        # shellcheck disable=SC2086
        run -0 --separate-stderr train -o "$tmp/c" "$dir/packed" $how "$dir/lines"
        [ -z "$stderr" ]
    done
    run -1 --separate-stderr train -o "$tmp/e" --eval "$dir/lines" --eval-generate --tokenizer testdata/demo/spiece.model "$dir/packed"
    [[ $stderr == "t5-train: testdata/demo/spiece.model: not as the training records: another tokenizer"* ]]
    run -0 --separate-stderr train -o "$tmp/e" --eval "$dir/lines" --eval-generate --tokenizer testdata/golden/tokenizer/spiece.model "$dir/packed"
    run -0 --separate-stderr t5-train --device ref -m "$dir/base" --max-steps 1 --save-every 0 --init "$dir/adapter" -o "$tmp/d" "$tmp/say"
    [ "$stderr" = "t5-train: training records: not as those of --init's adapter: prefix 'summarize: ' there, 'say: ' here" ]
}

@test "t5-train --resume names the setting that is another, and takes the same records as JSON lines" {
    tokens -p 'say: ' "$dir/text" >"$tmp/say"
    train --save-every 1 -o "$tmp/a" "$dir/packed" >"$tmp/log"
    run -1 --separate-stderr train --save-every 1 -o "$tmp/a" --resume "$tmp/say"
    [[ $stderr == "t5-train: $tmp/a/checkpoint."*": made with another tokens.prefix: summarize:  there, say:  here" ]]
    run -0 --separate-stderr train --save-every 1 -o "$tmp/a" --resume "$dir/packed"
    run -0 --separate-stderr train --save-every 1 -o "$tmp/a" --resume "$dir/lines"
    train --save-every 1 -o "$tmp/b" "$dir/lines" >"$tmp/log"
    run -1 --separate-stderr train --save-every 1 -o "$tmp/b" --resume "$tmp/say"
    [[ $stderr == *'made with another data'* ]]
    run -0 --separate-stderr train --save-every 1 -o "$tmp/b" --resume "$dir/packed"
}

@test "a tokenizer with more ids than the model is refused before any record" {
    for program in "t5-train -o $tmp/a" t5-generate; do
        # shellcheck disable=SC2086
        run -1 --separate-stderr ${program%% *} ${program#"${program%% *}"} --device ref -m testdata/golden/gated/model "$dir/packed"
        [ "$stderr" = "${program%% *}: $dir/packed: made with a tokenizer of 378 ids, the model has 96" ]
        [[ $output != *output_ids* ]]
    done
}

@test "an adapter on another base than it was trained on: one line; the same base in other types is none" {
    t5-train --device ref -m "$dir/base" --full --max-steps 1 --lr 0.1 --save-every 0 -o "$tmp/other" "$dir/lines" >"$tmp/log"
    t5-quantize -t bf16 -o "$tmp/bf16" "$dir/base"
    t5-quantize -o "$tmp/int8" "$dir/base"
    for model in "$dir/base" "$tmp/bf16" "$tmp/int8"; do
        run -0 --separate-stderr t5-generate --device ref -m "$model" --max-new-tokens 2 --strict-settings -a "$dir/adapter" "$dir/packed"
        [ -z "$stderr" ]
    done
    run -0 --separate-stderr t5-generate --device ref -m "$tmp/other" --max-new-tokens 2 -a "$dir/adapter" "$dir/packed"
    [ "$stderr" = "t5-generate: $dir/adapter: this adapter was trained on another base model" ]
    [ "${#lines[@]}" = 6 ]
    run -1 --separate-stderr t5-generate --device ref -m "$tmp/other" --strict-settings -a x="$dir/adapter" "$dir/packed"
    [ "$stderr" = "t5-generate: x=$dir/adapter: this adapter was trained on another base model" ]
    [ -z "$output" ]
    run -0 --separate-stderr t5-quantize -o "$tmp/q" --merge "$dir/adapter=0.5" "$tmp/other"
    [ "$stderr" = "t5-quantize: $dir/adapter=0.5: this adapter was trained on another base model" ]
    run -0 --separate-stderr t5-train --device ref -m "$tmp/other" --max-steps 1 --save-every 0 --init "$dir/adapter" -o "$tmp/a" "$dir/packed"
    [ "$stderr" = "t5-train: $dir/adapter: this adapter was trained on another base model" ]
    # PEFT's adapters name no base that could be compared
    run -0 --separate-stderr t5-generate --device ref -m testdata/golden/gated/model --max-new-tokens 2 --strict-settings \
        -a testdata/golden/gated/adapter-qv testdata/golden/records.jsonl
    [ -z "$stderr" ]
}
