#!/usr/bin/env bats
# t5-generate.bats - the program: ids and scores equal to transformers', the same bytes whatever the batches, threads
# or shards, sampling, streaming, records and fields, bad input, output failures.

bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return 1
    golden=testdata/golden
    records=$golden/records.jsonl
    model=$golden/gated/model
    tmp=$BATS_TEST_TMPDIR
}

generate() { # on the reference backend, one model
    t5-generate --device ref -m "$model" "$@"
}

# The options for a line of settings.jsonl.
options_for='[(if .num_beams then "--beams", .num_beams else empty end),
    (if has("early_stopping") then "--early-stopping", .early_stopping else empty end),
    (if .length_penalty then "--length-penalty", .length_penalty else empty end),
    (if .num_return_sequences then "-n", .num_return_sequences else empty end),
    (if .no_repeat_ngram_size then "--no-repeat-ngram", .no_repeat_ngram_size else empty end),
    (if .repetition_penalty then "--repetition-penalty", .repetition_penalty else empty end),
    (if .min_new_tokens then "--min-new-tokens", .min_new_tokens else empty end),
    (.bad_words_ids // [] | .[] | select(. != [1]) | "--ban", join(",")),
    (if .forced_bos_token_id then "--force-prefix", .forced_bos_token_id else empty end),
    (if .forced_prefix then "--force-prefix", (.forced_prefix | join(",")) else empty end),
    (if .forced_eos_token_id then "--force-eos" else empty end),
    "--max-new-tokens", .max_new_tokens] | map(tostring) | join(" ")'

# NAME.jsonl of the directory got and of another, of each name: the same ids of every record; the same finish; scores
# to 1e-4.
equal='def equal($got; $want): ($got | map({(.id): .}) | add) as $by
    | ($want | length) > 0 and all($want[]; . as $w | $by[.id] as $g
        | $g.output_ids == $w.output_ids
        and ([$g.finish] | flatten) == (if $w.output_ids[0] | type == "array" then $w.output_ids else [$w.output_ids] end
            | map(if .[-1] == 1 then "eos" else "length" end))
        and (if $w | has("score") then [[$g.score] | flatten, ([$w.score] | flatten)] | transpose
                | all(.[]; (.[0] - .[1] | fabs) < 1e-4) else $g | has("score") | not end));
    reduce (inputs | [(input_filename | split("/")[-2:]), .]) as [[$dir, $name], $record] ({};
        .[$name][if $dir == "got" then "got" else "want" end] += [$record])
    | length > 0 and all(to_entries[]; equal(.value.got; .value.want) or error(.key))'

# DEVICE GEOMETRY: all settings, without and with adapters.
check_golden() {
    local adapter name options
    mkdir "$tmp/got"
    for adapter in none qv all; do
        while IFS=$'\t' read -r name options; do
            # shellcheck disable=SC2046,SC2086
            t5-generate --device "$1" -j 1 -m "$golden/$2/model" \
                $([ $adapter = none ] || echo -a "$golden/$2/adapter-$adapter") $options "$records" >"$tmp/got/$name.jsonl"
        done < <(jq -r "[.name, ($options_for)] | @tsv" "$golden/settings.jsonl")
        jq -e -n "$equal" "$tmp"/got/*.jsonl "$golden/$2/generate/$adapter"/*.jsonl || { echo "$1 $2 $adapter"; return 1; }
    done
}

@test "ref: gated: transformers' ids and scores" { check_golden ref gated; }
@test "ref: relu: transformers' ids and scores" { check_golden ref relu; }
@test "ref: shallow: transformers' ids and scores" { check_golden ref shallow; }

@test "cpu: gated: transformers' ids and scores" { check_golden cpu gated; }
@test "cpu: relu: transformers' ids and scores" { check_golden cpu relu; }
@test "cpu: shallow: transformers' ids and scores" { check_golden cpu shallow; }

searches=('' '--no-repeat-ngram 2 --repetition-penalty 1.3 --min-new-tokens 5'
    '--beams 4 -n 2 --length-penalty 0.6 --no-repeat-ngram 3' '--sample -n 3 --top-p 0.9'
    '--sample --top-k 0 --temperature 0.8 --repetition-penalty 1.2'
    '--sample --top-k 0 --min-p 0.02 --typical 0.7' '--beams 3 --repetition-penalty 0.7'
    '--beams 3 --force-prefix 9,30 --ban 5 --ban 88,63 --force-eos' '--sample -n 2 --ban 5 --ban 44,88 --force-prefix 5')

@test "the same bytes whatever the batch" {
    for search in "${searches[@]}"; do
        # shellcheck disable=SC2086
        generate $search --max-new-tokens 12 "$records" >"$tmp/want"
        [ "$(wc -l <"$tmp/want")" = 24 ]
        for tokens in 1 60 300 100000; do
            # shellcheck disable=SC2086
            generate $search --max-new-tokens 12 --batch-tokens $tokens "$records" | cmp - "$tmp/want"
        done
    done
}

# On a machine with fewer processors more threads only take turns, slowly: few tokens.
@test "the same bytes whatever the thread count and batch on the CPU, in every arithmetic" {
    for compute in f32 bf16 int8; do
        for search in '--beams 4 -n 2 --no-repeat-ngram 3' '--sample -n 2 --top-p 0.9'; do
            # shellcheck disable=SC2086
            t5-generate --device cpu --compute $compute -m "$model" -j 1 $search --max-new-tokens 5 "$records" >"$tmp/want"
            for how in '-j 2' '-j 4 --batch-tokens 400' '-j 8' '-j 1 --batch-tokens 1'; do
                # shellcheck disable=SC2086
                t5-generate --device cpu --compute $compute -m "$model" $how $search --max-new-tokens 5 "$records" |
                    cmp - "$tmp/want"
            done
        done
    done
}

@test "shards one behind the other give the bytes of one run" {
    split -l 7 "$records" "$tmp/shard."
    for search in "${searches[@]}"; do
        # shellcheck disable=SC2086
        for s in "$tmp"/shard.*; do generate $search --max-new-tokens 12 "$s"; done >"$tmp/got"
        # shellcheck disable=SC2086
        generate $search --max-new-tokens 12 "$records" | cmp - "$tmp/got"
    done
}

@test "a record's draw does not depend on where it stands" {
    tac "$records" | generate --sample --seed 7 | tac >"$tmp/got"
    generate --sample --seed 7 "$records" | cmp - "$tmp/got"
}

@test "sampling: seeds differ, the first of three samples is the single one, samples differ" {
    generate --sample "$records" >"$tmp/one"
    generate --sample --seed 42 "$records" | cmp - "$tmp/one"
    run ! cmp <(generate --sample --seed 43 "$records") "$tmp/one"
    generate --sample -n 3 "$records" >"$tmp/three"
    jq -e -n --slurpfile a "$tmp/one" --slurpfile b "$tmp/three" '[$a[].output_ids] == [$b[].output_ids[0]]
        and ([$b[].output_ids | unique | length] | max) == 3 and all($b[]; has("score") | not)'
}

@test "sampling from one candidate is greedy search" {
    generate "$records" >"$tmp/greedy"
    generate --sample --top-k 1 "$records" | cmp - "$tmp/greedy"
    generate --sample --top-p 0 "$records" | cmp - "$tmp/greedy"
    generate --sample --min-p 1 "$records" | cmp - "$tmp/greedy"
}

# 3,000 draws of a first token against the model's own probabilities, which a softmax over its beams' scores gives:
# beam search of one token returns the log-probabilities of the 96 tokens.
@test "sampling draws tokens as often as their probability says" {
    sed -n 5p "$records" >"$tmp/one"
    generate --beams 96 -n 96 --max-new-tokens 1 "$tmp/one" >"$tmp/scores"
    for seed in 1 2 3; do generate --sample --top-k 0 -n 1000 --seed $seed --max-new-tokens 1 "$tmp/one"; done >"$tmp/drawn"
    jq -e -n --slurpfile s "$tmp/scores" --slurpfile d "$tmp/drawn" '
        [$s[0] | [.output_ids, .score] | transpose[] | {id: .[0][0], p: (.[1] | exp)}] as $p
        | ([$d[].output_ids[][0]] | group_by(.) | map({(.[0] | tostring): length}) | add) as $n
        | ($p | map(.p) | add) as $sum | ([$n[]] | add) as $draws
        | $draws == 3000 and ($sum - 1 | fabs) < 1e-4 and ($p | length) == 96
        and all($p[]; (.p * $draws) as $want | (($n[.id | tostring] // 0) - $want | fabs) < 5 * ($want | sqrt) + 3)'
}

# GEOMETRY/logprobs/ADAPTER.jsonl has sum and logprobs of each record's labels.
check_scores() {
    local geometry adapter
    for geometry in gated relu shallow; do
        for adapter in none qv all; do
            # shellcheck disable=SC2046
            t5-generate --device "$1" -j 2 -m "$golden/$geometry/model" --score --logprobs --batch-tokens 100 \
                $([ $adapter = none ] || echo -a "$golden/$geometry/adapter-$adapter") "$records" >"$tmp/got"
            jq -e -n --slurpfile got "$tmp/got" --slurpfile want "$golden/$geometry/logprobs/$adapter.jsonl" '
                def near($x; $y): ($x - $y | fabs) < 1e-4;
                ($want | length) == 24 and [$got[].id] == [$want[].id]
                and all([$got, $want] | transpose[]; (.[0].logprobs | length) == (.[1].logprobs | length)
                    and near(.[0].score / (.[0].labels | length); .[1].sum / (.[0].labels | length))
                    and all([.[0].logprobs, .[1].logprobs] | transpose[]; near(.[0]; .[1])))' ||
                { echo "$1 $geometry $adapter"; return 1; }
        done
    done
}

@test "ref: --score: transformers' log-probabilities" { check_scores ref; }
@test "cpu: --score: transformers' log-probabilities" { check_scores cpu; }

@test "--score: the same bytes whatever the batch and thread count; fields, order and a search's members are kept" {
    for device in ref cpu; do
        t5-generate --device $device -m "$model" -j 1 --score --logprobs "$records" >"$tmp/want"
        for how in '--batch-tokens 1' '--batch-tokens 70' '-j 2'; do
            # shellcheck disable=SC2086
            t5-generate --device $device -m "$model" $how --score --logprobs "$records" | cmp - "$tmp/want"
        done
    done
    printf '%s\n' '{"score":1,"id": "a" , "output_ids":[9],"input_ids":[5,6,1],"labels":[7,1],"logprobs":[2]}' >"$tmp/in"
    run -0 sed -E 's/-[0-9.]+/X/' <(generate --score "$tmp/in")
    [ "$output" = '{"id": "a" , "output_ids":[9],"input_ids":[5,6,1],"labels":[7,1],"score":X}' ]
}

# A packed file of two records, [5,6,1] with labels [9,1] and [7,1] with labels [8,3,1], written by hand.
@test "--score of a packed token file" {
    header='{"input_ids":{"dtype":"I32","shape":[5],"data_offsets":[48,68]},"input_offsets":{"dtype":"I64","shape":[3],"data_offsets":[0,24]}'
    header+=',"labels":{"dtype":"I32","shape":[5],"data_offsets":[68,88]},"label_offsets":{"dtype":"I64","shape":[3],"data_offsets":[24,48]}}'
    while [ $((${#header} % 8)) != 0 ]; do header+=' '; done
    long() { printf '%b' "$(printf '\\x%02x\\0\\0\\0\\0\\0\\0\\0' "$@")"; }
    int() { printf '%b' "$(printf '\\x%02x\\0\\0\\0' "$@")"; }
    { int $((${#header} % 256)) | head -c 1; int $((${#header} / 256)) | head -c 1; printf '\0\0\0\0\0\0%s' "$header"
        long 0 3 5; long 0 2 5; int 5 6 1 7 1; int 9 1 8 3 1
    } >"$tmp/packed"
    printf '{"input_ids":[5,6,1],"labels":[9,1]}\n{"input_ids":[7,1],"labels":[8,3,1]}\n' |
        generate --score --logprobs | jq -c '{score,logprobs}' >"$tmp/want"
    generate --score --logprobs "$tmp/packed" >"$tmp/got"
    [ "$(jq -c .index "$tmp/got" | tr '\n' ' ')" = '0 1 ' ]
    jq -c '{score,logprobs}' "$tmp/got" | cmp - "$tmp/want"
}

@test "--score: records without labels or with bad ones are named" {
    printf '{"input_ids":[5,1],"labels":[6,1]}\n' >"$tmp/good"
    for bad in '{"input_ids":[5,1]}' '{"input_ids":[5,1],"labels":[]}' '{"input_ids":[5,1],"labels":[96]}' \
        '{"input_ids":[5,1],"labels":"x"}' '{"labels":[5,1]}'; do
        printf '%s\n' "$bad" | cat "$tmp/good" - "$tmp/good" >"$tmp/in"
        run -1 --separate-stderr generate --score "$tmp/in"
        [ "${#lines[@]}" = 1 ]
        [[ $stderr == "t5-generate: $tmp/in:2:"* ]]
        [ "${#stderr_lines[@]}" = 1 ]
        run -3 --separate-stderr generate --score --skip-bad "$tmp/in"
        [ "${#lines[@]}" = 2 ]
    done
}

@test "--logprobs of greedy search and of samples are --score's of the same ids" {
    for device in ref cpu; do
        for search in '' '--sample --temperature 0.7 --top-p 0.9'; do
            # shellcheck disable=SC2086
            t5-generate --device $device -m "$model" $search --logprobs --max-new-tokens 12 "$records" >"$tmp/made"
            jq -c '.labels = .output_ids | .made = .logprobs' "$tmp/made" |
                t5-generate --device $device -m "$model" --score --logprobs >"$tmp/scored"
            jq -e -n --slurpfile got "$tmp/scored" '($got | length) == 24 and all($got[];
                (.made | length) == (.labels | length) and (.made | length) == (.logprobs | length)
                and all([.made, .logprobs] | transpose[]; (.[0] - .[1] | fabs) < 1e-4))'
        done
    done
}

@test "--logprobs of beams sum to their scores, in lists like those of the ids" {
    for rules in '' '--no-repeat-ngram 3 --repetition-penalty 1.2 --min-new-tokens 5'; do
        # shellcheck disable=SC2086
        generate --beams 4 -n 3 --length-penalty 0.6 $rules --logprobs --max-new-tokens 12 "$records" >"$tmp/out"
        jq -e -n --slurpfile got "$tmp/out" '($got | length) == 24 and all($got[];
            (.output_ids | map(length)) == (.logprobs | map(length))
            and all([.logprobs, .score] | transpose[];
                ((.[0] | add) / pow(.[0] | length; 0.6) - .[1] | fabs) < 1e-4))'
    done
}

# golden/GEOMETRY/transitions.jsonl: compute_transition_scores of transformers' greedy search with rules and of beams.
@test "--logprobs are transformers' transition scores" {
    while read -r want; do
        setting=$(jq -r .name <<<"$want")
        # shellcheck disable=SC2046
        jq -c 'select(.id == $id)' --arg id "$(jq -r .id <<<"$want")" "$records" |
            generate --logprobs $(jq -r "select(.name == \"$setting\") | $options_for" "$golden/settings.jsonl") >"$tmp/got"
        jq -e -n --slurpfile got "$tmp/got" --argjson want "$want" '$got[0].output_ids == $want.output_ids
            and ($want.logprobs | flatten | length) == ($got[0].logprobs | flatten | length)
            and all([$got[0].logprobs, $want.logprobs] | map(flatten) | transpose[]; (.[0] - .[1] | fabs) < 1e-4)' ||
            { echo "$want"; cat "$tmp/got"; false; }
    done <"$golden/gated/transitions.jsonl"
}

# Three adapters of other ranks, scales and modules, mixed with none, record by record.
make_adapters() {
    t5-train --device cpu --threads 1 -m "$model" -o "$tmp/third" --rank 2 --alpha 24 --targets k,wo --lr 0.05 --max-steps 4 \
        --save-every 0 "$records" >"$tmp/metrics" 2>&1
    adapters=(-a qv="$golden/gated/adapter-qv" -a all="$golden/gated/adapter-all" -a third-one="$tmp/third")
    jq -c --argjson n '["qv", "third-one", null, "all"]' '. + (if $n[input_line_number % 4] then
        {adapter: $n[input_line_number % 4]} else {} end)' "$records" >"$tmp/mixed"
}

dir_of() { case $1 in third-one) echo "$tmp/third" ;; *) echo "$golden/gated/adapter-$1" ;; esac; }

@test "a batch that mixes three adapters and none gives each record what it gets alone, to the bit" {
    make_adapters
    [ "$(jq -r .adapter "$tmp/mixed" | sort | uniq -c | awk '{print $1}' | tr '\n' ' ')" = '6 6 6 6 ' ]
    for device in ref 'cpu -j 2' 'cpu --compute bf16' 'cpu --compute int8'; do
        for how in '--beams 4 -n 2 --max-new-tokens 8' '--logprobs --max-new-tokens 8' \
            '--sample -n 2 --max-new-tokens 5 --batch-tokens 200' '--score --logprobs --batch-tokens 300' '--score --logprobs'; do
            [[ $device != cpu*e* || $how == --b* ]] || continue
            # shellcheck disable=SC2086
            t5-generate --device $device -m "$model" "${adapters[@]}" $how "$tmp/mixed" >"$tmp/got"
            for name in null qv all third-one; do
                # shellcheck disable=SC2046,SC2086
                jq -c "select((.adapter // \"null\") == \"$name\")" "$tmp/mixed" |
                    t5-generate --device $device -m "$model" $([ $name = null ] || echo -a "$(dir_of $name)") $how >"$tmp/alone.$name"
                if [ $name = null ]; then grep -v '"adapter":' "$tmp/got"; else grep -F '"adapter":"'$name'"' "$tmp/got"; fi |
                    cmp - "$tmp/alone.$name" || { echo "$device $how $name"; false; }
            done
            [ "$(cat "$tmp"/alone.* | wc -l)" = 24 ]
        done
    done
}

@test "the records of one source under several adapters differ, those that name none get the one without a name" {
    make_adapters
    sed -n 9p "$records" | jq -c '{input_ids}' >"$tmp/one"
    jq -c '(., . + {adapter: null}, . + {adapter: "qv"}, . + {adapter: "third-one"})' "$tmp/one" >"$tmp/in"
    generate --beams 2 -a "$golden/gated/adapter-all" -a qv="$golden/gated/adapter-qv" -a third-one="$tmp/third" "$tmp/in" |
        jq -c .score >"$tmp/got"
    { generate --beams 2 -a "$golden/gated/adapter-all" "$tmp/one"; generate --beams 2 "$tmp/one"
        generate --beams 2 -a "$golden/gated/adapter-qv" "$tmp/one"; generate --beams 2 -a "$tmp/third" "$tmp/one"; } |
        jq -c .score | cmp - "$tmp/got"
    [ "$(sort -u "$tmp/got" | wc -l)" = 4 ]
    # with one adapter and no name the member means nothing here, as ever
    jq -c '. + {adapter: ["x"]}' "$tmp/one" | generate --beams 2 -a "$golden/gated/adapter-all" | jq -c .score |
        cmp - <(head -n 1 "$tmp/got")
    # an argument that is a directory is one, whatever stands in its name
    cp -r "$golden/gated/adapter-qv" "$tmp/lr=3"
    (root=$PWD && cd "$tmp" && t5-generate --device ref -m "$root/$model" -a lr=3 --beams 2 one) | jq -c .score |
        cmp - <(sed -n 3p "$tmp/got")
}

@test "adapters: an unknown name is a bad record; names that cannot be are usage errors" {
    qv=$golden/gated/adapter-qv
    for bad in '"nosuch"' '"qv "' '""' 5 '["qv"]' '"q\u0000v"'; do
        printf '{"input_ids":[5,1],"adapter":"q\\u0076"}\n{"input_ids":[5,1],"adapter":%s}\n{"input_ids":[6,1]}\n' "$bad" >"$tmp/in"
        run -1 --separate-stderr generate -a qv="$qv" --max-new-tokens 2 "$tmp/in"
        [[ $stderr == "t5-generate: $tmp/in:2:"*'"adapter"'* ]]
        [ "${#lines[@]}" = 1 ]
        [ "${#stderr_lines[@]}" = 1 ]
        run -3 --separate-stderr generate -a qv="$qv" --max-new-tokens 2 --skip-bad "$tmp/in"
        [ "${#lines[@]}" = 2 ]
        [ "${stderr_lines[1]}" = 't5-generate: 1 of 3 records skipped' ]
    done
    run -2 --separate-stderr generate -a "$qv" -a "$qv" "$records"
    [[ $stderr == *'needs a name'* ]]
    run -2 --separate-stderr generate -a x="$qv" -a x="$qv" "$records"
    [[ $stderr == *'given twice'* ]]
    run -2 --separate-stderr generate -a "$(printf '%065d' 1)=$qv" "$records"
    [[ $stderr == *'more than 64 bytes'* ]]
    run -1 --separate-stderr generate -a x="$qv" -a y="$golden/relu/adapter-qv" "$records"
    [ -z "$output" ]
    [ "${#stderr_lines[@]}" = 1 ]
    run ! generate -a x= "$records"
}

@test "--ban and --ban-file: no output holds a banned id or sequence" {
    printf '{"input_ids":[44,1],"dialogue":"x"}\n{"input_ids":[57,81]}\n{"input_ids":[5,40,1]}\n' >"$tmp/bad"
    for search in '' '--beams 4 -n 4' '--sample -n 8' '--sample --top-k 0'; do
        # shellcheck disable=SC2086
        generate $search --max-new-tokens 15 "$records" >"$tmp/free"
        # shellcheck disable=SC2086
        generate $search --max-new-tokens 15 --ban 44 --ban 57,81 --ban 5,40 "$records" >"$tmp/out"
        # shellcheck disable=SC2086
        generate $search --max-new-tokens 15 --ban-file "$tmp/bad" "$records" | cmp - "$tmp/out"
        holds='[.output_ids | if (.[0] | type) == "array" then .[] else . end | index(44), index([57, 81]), index([5, 40])] | map(select(. != null)) | length'
        [ "$(jq "$holds" "$tmp/out" | sort -u)" = 0 ]
        [ "$(jq "$holds" "$tmp/free" | awk '{ n += $1 } END { print (n > 2) }')" = 1 ]
    done
}

@test "--force-prefix and --force-eos: samples and rows of every record; what is forced beats a ban and costs nothing" {
    generate --sample -n 3 --logprobs --force-prefix 9,44,9 --ban 44 --force-eos --max-new-tokens 6 "$records" >"$tmp/out"
    jq -e -n --slurpfile got "$tmp/out" '($got | length) == 24 and all($got[];
        all(.output_ids[]; .[:3] == [9, 44, 9] and .[-1] == 1 and (.[3:] | index(44)) == null)
        and all(.finish[]; . == "eos") and all(.logprobs[]; .[:3] == [0, 0, 0]))'
    [ "$(jq -c '.output_ids[]' "$tmp/out" | sort -u | wc -l)" -gt 20 ]
    for search in '' --sample '--beams 2'; do
        # shellcheck disable=SC2086
        run -0 generate $search --force-prefix 7,8 --max-new-tokens 2 <(head -n 1 "$records")
        [ "$(jq -c .output_ids <<<"$output")" = '[7,8]' ]
    done
    run -0 generate --force-prefix 7,1,8 <(head -n 1 "$records")
    [ "$(jq -c '[.output_ids, .finish]' <<<"$output")" = '[[7,1],"eos"]' ]
}

@test "ids that cannot be banned or forced" {
    for args in '--ban 96' '--ban -1' '--ban 5,' '--ban ,5' '--ban 5,,6' '--ban 5x' '--ban 99999999999999999999' '--ban 1' \
        '--force-prefix 96' '--force-prefix 5;6' '--force-prefix 5,6,7 --max-new-tokens 2' '--score --ban 5' \
        '--score --force-eos' '--score --force-prefix 5' "--score --ban-file $records"; do
        # shellcheck disable=SC2086
        run --separate-stderr generate $args "$records"
        [ "$status" = 2 ] && [ -z "$output" ] && [ "${#stderr_lines[@]}" = 1 ] || { echo "$args: $status $stderr"; false; }
    done
    run -2 --separate-stderr generate --ban '' "$records"
    for bad in '{"input_ids":[1]}' '{"input_ids":[]}' '{"input_ids":[96,1]}' '{"labels":[5,1]}' x; do
        printf '{"input_ids":[5,1]}\n%s\n' "$bad" >"$tmp/bad"
        run -1 --separate-stderr generate --ban-file "$tmp/bad" "$records"
        [[ $stderr == "t5-generate: $tmp/bad:2:"* ]]
        [ "${#stderr_lines[@]}" = 1 ]
        [ -z "$output" ]
    done
    run -4 generate --ban-file "$tmp/nosuch" "$records"
}

@test "--stats: one line of JSON on standard error, whose counts are those of the output, and the same output" {
    for how in '' '--beams 4 -n 2' '--score'; do
        # shellcheck disable=SC2086
        generate $how --stats "$records" >"$tmp/out" 2>"$tmp/err"
        # shellcheck disable=SC2086
        generate $how "$records" | cmp - "$tmp/out"
        [ "$(wc -l <"$tmp/err")" = 1 ]
        jq -e -n --slurpfile out "$tmp/out" --slurpfile s "$tmp/err" --arg how "$how" 'def near($x; $y): ($x - $y | fabs) <= 1e-4 * $y;
            $s[0] | .records == 24 and .tokens == ([$out[] | if $how == "--score" then .labels else .output_ids end] | flatten | length)
                and .seconds > 0 and near(.records_per_s * .seconds; .records) and near(.tokens_per_s * .seconds; .tokens)
                and .peak_bytes > 1e6 and .peak_bytes < 4e9'
    done
    printf '{"input_ids":[5,1]}\n{}\n' >"$tmp/in"
    run -3 --separate-stderr generate --stats --skip-bad "$tmp/in"
    [ "${#stderr_lines[@]}" = 3 ]
    [ "$(jq .records <<<"${stderr_lines[1]}")" = 1 ]
    run -0 --separate-stderr generate --stats /dev/null
    [ "$(jq -c '[.records, .tokens, .tokens_per_s]' <<<"$stderr")" = '[0,0,0]' ]
}

@test "--preset recipe samples as published; options given win" {
    generate --sample --top-k 50 --top-p 0.9 --max-new-tokens 50 "$records" >"$tmp/want"
    generate --preset recipe "$records" | cmp - "$tmp/want"
    generate --preset recipe --top-k 0 --top-p 1 --max-new-tokens 9 --seed 3 "$records" >"$tmp/got"
    generate --sample --top-k 0 --top-p 1 --max-new-tokens 9 --seed 3 "$records" | cmp - "$tmp/got"
    run ! cmp -s "$tmp/got" "$tmp/want"
}

@test "fields pass through, made ones are replaced, order is kept" {
    printf '%s\n' '{"output_ids":[9],"id": "a" , "input_ids":[5,6,1],"score":1,"x":{"finish":2}}' '' \
        '{"input_ids":[7,1],"n":1.50}' >"$tmp/in"
    generate --max-new-tokens 3 "$tmp/in" >"$tmp/out"
    run -0 sed -E 's/"output_ids":\[[0-9,]+\],"finish":"(eos|length)"/MADE/' "$tmp/out"
    [ "${lines[0]}" = '{"id": "a" , "input_ids":[5,6,1],"x":{"finish":2},MADE}' ]
    [ "${lines[1]}" = '{"input_ids":[7,1],"n":1.50,MADE}' ]
    [ "${#lines[@]}" = 2 ]
}

@test "files, - and a pipe in one-byte reads" {
    generate "$records" >"$tmp/want"
    head -n 5 "$records" >"$tmp/a"
    tail -n +6 "$records" | generate "$tmp/a" - | cmp - "$tmp/want"
    head -c 2000 "$records" | head -n 4 | dd bs=1 status=none | generate | cmp - <(head -n 4 "$tmp/want")
}

@test "no records in, none out" {
    run -0 generate /dev/null
    [ -z "$output" ]
}

# A packed file of two records, [5,6,1] and [7,1], written by hand.
@test "a packed token file gives records with an index" {
    header='{"input_ids":{"dtype":"I32","shape":[5],"data_offsets":[24,44]},"input_offsets":{"dtype":"I64","shape":[3],"data_offsets":[0,24]}}'
    while [ $((${#header} % 8)) != 0 ]; do header+=' '; done
    { printf "\\x$(printf %x ${#header})\\0\\0\\0\\0\\0\\0\\0%s" "$header"
        printf '\0\0\0\0\0\0\0\0\3\0\0\0\0\0\0\0\5\0\0\0\0\0\0\0\5\0\0\0\6\0\0\0\1\0\0\0\7\0\0\0\1\0\0\0'
    } >"$tmp/packed"
    printf '{"input_ids":[5,6,1]}\n{"input_ids":[7,1]}\n' | generate | jq -c '{output_ids,finish}' >"$tmp/want"
    generate "$tmp/packed" >"$tmp/got"
    [ "$(jq -c .index "$tmp/got" | tr '\n' ' ')" = '0 1 ' ]
    jq -c '{output_ids,finish}' "$tmp/got" | cmp - "$tmp/want"
    generate <"$tmp/packed" | cmp - "$tmp/got"
}

@test "a line typed by hand is answered at once" {
    mkfifo "$tmp/in" "$tmp/out"
    t5-generate --device ref -m "$model" --max-new-tokens 3 <"$tmp/in" >"$tmp/out" 3>&- &
    exec 5>"$tmp/in" 6<"$tmp/out"
    for i in 1 2 3; do
        printf '{"i":%d,"input_ids":[%d,1]}\n' $i $((i + 4)) >&5
        read -r -t 20 line <&6
        [[ $line == '{"i":'$i',"input_ids":'*'"finish":'* ]]
    done
    exec 5>&-
    wait $!
    exec 6<&-
}

@test "sources of 1 and of 8,192 tokens; 8,193 are refused" {
    source_of() { jq -cn --argjson n "$1" '{n: $n, input_ids: ([range($n - 1) | 2 + . % 90] + [1])}'; }
    source_of 8192 >"$tmp/in"
    source_of 1 >>"$tmp/in"
    t5-generate --device cpu -m "$model" --max-new-tokens 4 "$tmp/in" >"$tmp/out"
    [ "$(jq -r '"\(.n) \(.output_ids | length > 0)"' "$tmp/out" | tr '\n' ' ')" = '8192 true 1 true ' ]
    source_of 8193 >"$tmp/in"
    run -1 --separate-stderr generate "$tmp/in"
    [ "$stderr" = "t5-generate: $tmp/in:1: \"input_ids\": 8193 tokens, at most 8192 are taken" ]
}

bad_record() { # TEXT PATTERN: good, bad, good
    printf '{"input_ids":[5,1]}\n%s\n{"input_ids":[6,1]}\n' "$1" >"$tmp/in"
    run --separate-stderr generate --max-new-tokens 2 "$tmp/in"
    [ "$status" = 1 ]
    [ "${#lines[@]}" = 1 ]
    [ "${#stderr_lines[@]}" = 1 ]
    [[ $stderr == "t5-generate: $tmp/in:2"*$2* ]]
    run --separate-stderr generate --max-new-tokens 2 --skip-bad "$tmp/in"
    [ "$status" = 3 ]
    [ "${#lines[@]}" = 2 ]
    [[ ${stderr_lines[0]} == "t5-generate: $tmp/in:2"*$2* ]]
    [ "${stderr_lines[1]}" = 't5-generate: 1 of 3 records skipped' ]
}

@test "bad records end with status 1, after those before them; --skip-bad passes over them" {
    bad_record '{"input_ids":[5,96,1]}' 'found 96'
    bad_record '{"input_ids":[5,-1]}' 'found -1'
    bad_record '{"input_ids":[5.0]}' 'found 5.0'
    bad_record '{"input_ids":[]}' 'is empty'
    bad_record '{"input_ids":"5"}' 'found a string'
    bad_record '{"ids":[5]}' 'no "input_ids"'
    bad_record 'not JSON' ''
    bad_record $'{"input_ids":[5,1],"t":"\xff"}' ''
    bad_record '{"input_ids":[5,1]' ''
    bad_record '{"input_ids":[5,1],"attention_mask":[1]}' 'attention_mask'
}

@test "usage errors end with status 2, before any work" {
    run -2 --separate-stderr t5-generate "$records"
    [[ $stderr == *'-m MODEL is missing'* ]]
    for args in '--sample --beams 4' '-n 2' '--beams 4 -n 5' '--top-k 5' '--top-p 0.5' '--temperature 0.5' \
        '--length-penalty 2' '--early-stopping true' '--beams 4 --early-stopping maybe' '--max-new-tokens 10x' \
        '--score --beams 2' '--score --sample' '--score --no-repeat-ngram 2' \
        '--preset recipe --beams 2' '--min-p 0.1' '--typical 0.5' '--sample --min-p 1.1' '--sample --typical 0' '--preset recipe --score' '--preset other' \
        '--max-new-tokens 0' '--min-new-tokens 51' '--beams 0x10' '--sample --top-p nan' '--sample --temperature 0' \
        '--sample --top-p 1.1' '--seed -1' '--repetition-penalty 1e400' '--batch-tokens 0' '--device gpu' '--nosuch' \
        '--compute fp8' '--keep-bf16 wo' '--compute fp8 --keep-bf16 wi,,wo' '--compute int8 --device cpu --keep-bf16 wo'; do
        # shellcheck disable=SC2086
        run --separate-stderr generate $args "$tmp/nosuch.jsonl"
        [ "$status" = 2 ] && [ -z "$output" ] && [ "${#stderr_lines[@]}" = 1 ] || { echo "$args: $status $stderr"; false; }
    done
}

@test "no such file, model or adapter; an adapter that does not fit" {
    run --separate-stderr generate "$tmp/nosuch.jsonl"
    [ "$status" = 4 ]
    [[ $stderr == *nosuch.jsonl*'No such file'* ]]
    run --separate-stderr t5-generate -m "$tmp/nosuch" "$records"
    [ "$status" = 1 ] || [ "$status" = 4 ]
    [[ $stderr == *nosuch* ]]
    [ -z "$output" ]
    run --separate-stderr generate -a "$tmp/nosuch" "$records"
    [ "$status" = 1 ] || [ "$status" = 4 ]
    [[ $stderr == *nosuch* ]]
    [ -z "$output" ]
    run -1 --separate-stderr generate -a "$golden/relu/adapter-qv" "$records"
    [ -z "$output" ]
    [ "${#stderr_lines[@]}" = 1 ]
}

# A NaN in the last row of lm_head (of "gated", it is not tied).
@test "logits that are not finite, and rules that ban everything, are errors" {
    cp -r "$model" "$tmp/broken"
    chmod -R u+w "$tmp/broken"
    head=$(od -An -tu8 -N8 "$model/model.safetensors")
    end=$(dd if="$model/model.safetensors" bs=1 skip=8 count="$head" status=none | jq '.["lm_head.weight"].data_offsets[1]')
    printf '\377\377\377\177' | dd of="$tmp/broken/model.safetensors" bs=1 seek=$((8 + head + end - 4)) conv=notrunc status=none
    for search in '' '--beams 4' '--sample --top-k 0'; do
        # shellcheck disable=SC2086
        run -1 --separate-stderr t5-generate --device ref -m "$tmp/broken" $search "$records"
        [[ $stderr == "t5-generate: $records:"[0-9]*": new token 1: the model's logits are not finite" ]]
        [ -z "$output" ]
    done
    run -1 --separate-stderr t5-generate --device ref -m "$tmp/broken" --score "$records"
    [ "$stderr" = "t5-generate: $records:1: label 0: the model's logits are not finite" ]
    [ -z "$output" ]
    run -1 --separate-stderr generate --no-repeat-ngram 1 --min-new-tokens 100 --max-new-tokens 100 "$records"
    [[ $stderr == "t5-generate: $records:"[0-9]*": new token 95: every token is banned by the rules" ]]
}

@test "output that cannot be written ends with status 4, a closed pipe by its signal" {
    run -4 --separate-stderr bash -c "t5-generate --device ref -m $model $records >/dev/full"
    [[ $stderr == *'<stdout>'*'No space left'* ]]
    for ignored in '' "trap '' PIPE;"; do
        run -0 --separate-stderr bash -c "$ignored t5-generate --device ref -m $model --batch-tokens 1 $records | head -n 1 >/dev/null; echo \${PIPESTATUS[0]}"
        [ "$output" = 141 ]
        [ -z "$stderr" ]
    done
    run -4 --separate-stderr bash -c "t5-generate --device ref -m $model $records >&-"
}

@test "a backend of another build is refused" {
    mkdir -p "$tmp/bin" "$tmp/lib"
    cp "${B:-build}/bin/t5-generate" "$tmp/bin"
    echo 'const char t5_backend_cpu[4096];' | ${CC:-cc} -shared -fPIC -x c -o "$tmp/lib/t5-cpu.so" -
    run --separate-stderr "$tmp/bin/t5-generate" --device cpu -m "$model" "$records"
    [ "$status" = 4 ]
    [ -z "$output" ]
    [[ $stderr == "t5-generate: device cpu: "*"/t5-cpu.so is not of this program's build" ]]
}
