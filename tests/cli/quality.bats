#!/usr/bin/env bats
# quality.bats - what 8 and 4 bits cost, on the demo's trained base: logits, top-1 agreement, LoRA gradients and a loss
# curve, against the unquantised model in f32.

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return 1
    demo=testdata/demo
    tmp=$BATS_TEST_TMPDIR
    t5-tokenize -s $demo/spiece.model -p 'summarize: ' $demo/test.jsonl >"$tmp/tokens.jsonl"
    t5-quantize -o "$tmp/int8.safetensors" $demo/base
}

# MODEL COMPUTE LOGITS TOP1 COSINE CURVE: the model is within those bounds
within() {
    "${B:-build}"/bench/quality $demo/base f32 "$1" "$2" "$tmp/tokens.jsonl" 64 30 >"$tmp/row" || return 1
    cat "$tmp/row"
    jq -e "(.logits_relative_error <= $3) and (.top1_agreement >= $4) and (.lora_gradient_cosine >= $5)
        and (.loss_curve_difference <= $6)" "$tmp/row"
}

@test "f32 against itself is exact" { within $demo/base f32 0 1 0.999999 0; }
@test "bf16" { within $demo/base bf16 1.5e-2 0.993 0.999 0.005; }
@test "int8 weights" { within "$tmp/int8.safetensors" bf16 3e-2 0.985 0.995 0.01; }
@test "int8 weights and activations" { within "$tmp/int8.safetensors" int8 8e-2 0.965 0.98 0.02; }
@test "fp8 weights" {
    t5-quantize -t fp8 -o "$tmp/fp8.safetensors" $demo/base
    within "$tmp/fp8.safetensors" bf16 8e-2 0.96 0.97 0.02
}
@test "nf4 weights" {
    t5-quantize -t nf4 -o "$tmp/nf4.safetensors" $demo/base
    within "$tmp/nf4.safetensors" bf16 0.3 0.85 0.8 0.06
}
