#!/usr/bin/env bats
# rouge.bats - the program: scores, formats, fields, pass-through, bad records, output failures. Scores by the hundred
# are compared in tests/unit/test_rouge.c.

bats_require_minimum_version 1.5.0

setup() {
    golden=testdata/golden/rouge/texts.jsonl
    data=${T5_TEST_DATA:-../shared/data}/samsum/val.jsonl
    cd "$BATS_TEST_DIRNAME/../.." || return 1
    tmp=$BATS_TEST_TMPDIR
}

record() { # PREDICTION SUMMARY
    jq -cn --arg p "$1" --arg s "$2" '{prediction: $p, summary: $s}'
}

# The largest difference between scores as objects (left) and as [precision, recall, fmeasure] (right).
differ='def off($a; $b): [("rouge1", "rouge2", "rougeL", "rougeLsum") as $k
    | [$a[$k].precision, $a[$k].recall, $a[$k].fmeasure] as $x | range(3) | $x[.] - $b[$k][.] | fabs] | max;'

@test "every record of the golden file, stemmed and not" {
    rouge --per-record "$golden" | jq -e -s "$differ"' length == 87 and (map(off(.rouge; .stemmed)) | max) < 1e-12'
    rouge --per-record --no-stem "$golden" | jq -e -s "$differ"' length == 87 and (map(off(.rouge; .plain)) | max) < 1e-12'
}

@test "--rouge: other measures, in the order asked for" {
    rouge --rouge 7,4,3 --per-record "$golden" | jq -e -s 'map(. as $r | ["rouge7", "rouge4", "rouge3"] as $all
        | (.rouge | keys_unsorted) == $all and ($all | all(. as $k | $r.rouge[$k] | [.precision, .recall, .fmeasure]
            | [., $r.long[$k]] | transpose | all(.[0] - .[1] | fabs < 1e-12)))) | length == 87 and all'
    rouge --rouge L,2 --intervals --compare "$golden" "$golden" >"$tmp/two"
    jq -e 'keys_unsorted == ["count", "rougeL", "rouge2", "level", "resamples", "seed", "signature"]
        and .rouge2.compare.recall.p_bootstrap == 1' "$tmp/two"
    rouge --intervals "$golden" | jq -c '.rougeL, .rouge2' | cmp - <(jq -c '.rougeL, .rouge2 | del(.compare)' "$tmp/two")
    run -0 --separate-stderr rouge --rouge 3,Lsum --table --intervals "$golden"
    [[ ${#lines[@]} == 4 && ${lines[1]} == 'rouge3 '* && ${lines[2]} == 'rougeLsum '* ]]
    run -2 rouge --rouge 0 /dev/null
    [ "$output" = 'rouge: --rouge: expected numbers from 1 to 99, L and Lsum, found "0"' ]
    run -2 rouge --rouge 1,2 --worst 3 /dev/null
    [ "$output" = 'rouge: --worst needs L in --rouge' ]
}

@test "the object holds count, means and a signature" {
    rouge "$golden" >"$tmp/means"
    [ "$(wc -l <"$tmp/means")" = 1 ]
    jq -e 'keys_unsorted == ["count", "rouge1", "rouge2", "rougeL", "rougeLsum", "signature"] and .count == 87' "$tmp/means"
    jq -s '[.[].stemmed] as $all | {stemmed: ([$all[0] | keys[]] | map({key: ., value: [. as $k | range(3) as $i
        | [$all[][$k][$i]] | add / length]}) | from_entries)}' "$golden" >"$tmp/want"
    jq -e -n --slurpfile a "$tmp/means" --slurpfile b "$tmp/want" "$differ"' off($a[0]; $b[0].stemmed) < 1e-12'
}

@test "the signature tells settings apart" {
    run -0 bash -c "rouge $golden | jq -r .signature"
    [[ $output == *"stem:porter-nltk"*"t5-tools:$(rouge --version | cut -d' ' -f2)" ]]
    run -0 bash -c "rouge --no-stem --reference prediction $golden | jq -r .signature"
    [[ $output == *"reference:prediction"*"stem:no"* ]]
}

@test "--table is aligned percent" {
    record 'the cat sat' 'the cat ran off' >"$tmp/in"
    run -0 rouge --table "$tmp/in"
    [ "${#lines[@]}" = 6 ]
    [ "${lines[0]}" = 'percent    precision    recall         F' ]
    [ "${lines[1]}" = 'rouge1        66.667    50.000    57.143' ]
    [ "${lines[2]}" = 'rouge2        50.000    33.333    40.000' ]
    [ "${lines[5]}" = '1 record, stemmed' ]
}

@test "--prediction and --reference name the fields" {
    echo '{"mine":"a b","prediction":"c","theirs":"a b","summary":"d"}' >"$tmp/in"
    rouge --prediction mine --reference=theirs "$tmp/in" | jq -e '.rouge1.fmeasure == 1'
    rouge "$tmp/in" | jq -e '.rouge1.fmeasure == 0'
}

@test "--per-record keeps every byte of a record and adds one member" {
    printf '%s\n' '{ "id" : 1e0, "prediction":"\u0061", "x":[1, 2 ],"summary":"a" }' '{"summary":"b","prediction":"a"}' >"$tmp/in"
    run -0 rouge --per-record "$tmp/in"
    [ "${#lines[@]}" = 2 ]
    [[ ${lines[0]} == '{ "id" : 1e0, "prediction":"\u0061", "x":[1, 2 ],"summary":"a"'*',"rouge":{"rouge1":{"precision":1,'*'}'* ]]
    [[ ${lines[1]} == '{"summary":"b","prediction":"a","rouge":{"rouge1":{"precision":0,'* ]]
}

@test "--per-record replaces the scores of an earlier run" {
    record a a | rouge --per-record >"$tmp/once"
    run -0 rouge --per-record "$tmp/once"
    [ "$output" = "$(cat "$tmp/once")" ]
}

@test "an empty prediction scores 0" {
    { record '' 'a b'; record 'a b' 'a b'; } >"$tmp/in"
    rouge "$tmp/in" | jq -e '.count == 2 and .rouge1.fmeasure == 0.5 and .rougeLsum.precision == 0.5'
}

@test "no records: count 0, null scores, status 0" {
    run -0 rouge /dev/null
    jq -e '.count == 0 and .rouge1 == {precision: null, recall: null, fmeasure: null}' <<<"$output"
    run -0 rouge --table /dev/null
    [[ ${lines[1]} == 'rouge1 '*'-'*'-'*'-' && ${lines[5]} == '0 records, stemmed' ]]
    run -0 rouge --per-record /dev/null
    [ "$output" = '' ]
}

@test "a record without a prediction or summary: status 1, the line named" {
    { record a b; echo '{"summary":"b"}'; } >"$tmp/in"
    run -1 --separate-stderr rouge "$tmp/in"
    [ "$output" = '' ]
    [ "${#stderr_lines[@]}" = 1 ]
    [[ $stderr == "rouge: $tmp/in:2:1: no \"prediction\""* ]]
    echo '{"prediction":"b"}' >"$tmp/in"
    run -1 rouge "$tmp/in"
    [[ $output == "rouge: $tmp/in:1:1: no \"summary\""* ]]
}

@test "a prediction that is not text: status 1, line and column" {
    for value in null 1 '["a"]' '{}' true; do
        echo '{"summary":"b","prediction":'"$value"'}' >"$tmp/in"
        run -1 rouge "$tmp/in"
        [ "${#lines[@]}" = 1 ]
        [[ $output == "rouge: $tmp/in:1:29: "*prediction* ]]
    done
}

@test "records before a bad one are out; standard input is named" {
    run -1 --separate-stderr bash -c "{ jq -cn '{prediction: \"a\", summary: \"a\"}'; echo nonsense; } | rouge --per-record"
    [ "${#lines[@]}" = 1 ]
    [[ $stderr == 'rouge: <stdin>:2:1: '* ]]
}

@test "--skip-bad: names 20, counts all, status 3" {
    { record a a; for ((i = 0; i < 25; i++)); do echo '{}'; done; record a b; } >"$tmp/in"
    run -3 --separate-stderr rouge --skip-bad "$tmp/in"
    jq -e '.count == 2 and .rouge1.recall == 0.5' <<<"$output"
    [ "${#stderr_lines[@]}" = 21 ]
    [[ ${stderr_lines[19]} == "rouge: $tmp/in:21:1: no "* ]]
    [ "${stderr_lines[20]}" = 'rouge: 25 of 27 records skipped' ]
    run -3 rouge --skip-bad --per-record "$tmp/in"
    [ "$(grep -c '"rouge"' <<<"$output")" = 2 ]
}

@test "--max-line: at the limit, and one below" {
    record a b >"$tmp/in"
    n=$(($(wc -c <"$tmp/in") - 1))
    run -0 rouge --max-line "$n" "$tmp/in"
    run -1 rouge --max-line $((n - 1)) "$tmp/in"
    [[ $output == "rouge: $tmp/in:1:"* ]]
}

@test "texts too long to compare are one bad record" {
    awk 'BEGIN { printf "{\"summary\":\"a\",\"prediction\":\"a\"}\n{\"summary\":\""
        for (i = 0; i < 140000; i++) printf "a "; printf "\",\"prediction\":\""
        for (i = 0; i < 140000; i++) printf "b "; printf "\"}\n" }' >"$tmp/in"
    run -1 rouge "$tmp/in"
    [ "$output" = "rouge: $tmp/in:2:1: texts too long to compare (140000 x 140000 tokens)" ]
    run -3 --separate-stderr rouge --skip-bad "$tmp/in"
    jq -e '.count == 1 and .rougeL.fmeasure == 1' <<<"$output"
}

@test "a text of two million words against a short one" {
    awk 'BEGIN { printf "{\"summary\":\"one two three\",\"prediction\":\""
        for (i = 0; i < 2000000; i++) printf "w%d%s", i % 1000, i % 10 ? " " : "\\n"; print " two\"}" }' >"$tmp/in"
    [ "$B" = build-san ] || ulimit -v 400000 # KiB; the sanitizers reserve terabytes
    rouge "$tmp/in" | jq -e '.rouge1.recall * 3 == 1 and (.rougeLsum.precision * 2000001 - 1 | fabs) < 1e-12'
}

@test "files in order, - is standard input, a missing one has status 4" {
    record a a >"$tmp/1"
    record b c >"$tmp/2"
    run -0 bash -c "rouge --per-record $tmp/1 - $tmp/1 <$tmp/2 | jq -c .rouge.rouge1.fmeasure | paste -sd' '"
    [ "$output" = '1 0 1' ]
    run -4 --separate-stderr rouge --per-record "$tmp/1" "$tmp/none"
    [ "${#lines[@]}" = 1 ]
    [[ $stderr == "rouge: $tmp/none: "* ]]
}

@test "a file, a pipe and single bytes give the same" {
    want=$(rouge "$golden")
    [ "$(cat "$golden" | rouge)" = "$want" ]
    [ "$(head -n 20 "$golden" | rouge)" = "$(head -n 20 "$golden" | dd bs=1 status=none | rouge)" ]
}

@test "--table with --per-record: status 2" {
    run -2 rouge --table --per-record "$golden"
    [ "${#lines[@]}" = 1 ]
}

@test "a full disk: status 4, in mid-stream too" {
    run -4 bash -c "rouge --tokenizer unicode $golden >/dev/full"
    [ "$output" = 'rouge: <stdout>: No space left on device' ]
    run -4 bash -c "yes '$(record a b)' | rouge --per-record >/dev/full"
    [ "$output" = 'rouge: <stdout>: No space left on device' ]
}

@test "a full disk matters more than skipped records: status 4" {
    { record a b; echo '{}'; } >"$tmp/in"
    run -4 bash -c "rouge --skip-bad $tmp/in >/dev/full"
    [ "${lines[1]}" = 'rouge: <stdout>: No space left on device' ]
}

@test "a closed pipe ends it quietly" {
    run -0 --separate-stderr bash -c "yes '$(record a b)' | rouge --per-record | head -n 1 >/dev/null; echo \${PIPESTATUS[1]}"
    [ "$output$stderr" = 141 ]
    run -0 --separate-stderr bash -c "trap '' PIPE; yes '$(record a b)' 2>/dev/null | rouge --per-record | head -n 1 >/dev/null; echo \${PIPESTATUS[1]}"
    [ "$output$stderr" = 141 ]
}

@test "SAMSum validation: the means of three baselines are rouge_score's" {
    [ -f "$data" ] || skip "no SAMSum validation file (set T5_TEST_DATA)"
    local -A take=(
        [lead-3]='split("\n")[:3] | join("\n")'
        [longest-3]='split("\n") | sort_by(length)[-3:] | join("\n")'
        [every-third]='split(" ") | [.[range(0; length; 3)]] | join(" ")')
    for name in "${!take[@]}"; do
        jq -c "{summary, prediction: (.dialogue | ${take[$name]})}" "$data" >"$tmp/in"
        for stem in true false; do
            rouge $([ $stem = true ] || echo --no-stem) "$tmp/in" >"$tmp/got"
            jq -e -s --arg name "$name" --argjson stem $stem --slurpfile got "$tmp/got" "$differ"'
                map(select(.baseline == $name and .stem == $stem)) | length == 1 and .[0].count == $got[0].count
                and off($got[0]; .[0]) < 1e-9' testdata/samsum-means.jsonl
        done
    done
}

@test "--intervals adds 95 % intervals beside unchanged means" {
    rouge "$golden" >"$tmp/plain"
    rouge --intervals --resamples 1000 "$golden" >"$tmp/with"
    rouge --intervals --seed 1 - <"$golden" | cmp - "$tmp/with"
    rouge --intervals --resamples 1000 --seed 2 "$golden" >"$tmp/seed2"
    run -1 cmp -s "$tmp/seed2" "$tmp/with"
    diff <(jq -S 'del(.. | .interval?) | del(.level, .resamples, .seed)' "$tmp/with") <(jq -S . "$tmp/plain")
    jq -e '.level == 0.95 and .resamples == 1000 and .seed == 1 and ([.rouge1, .rouge2, .rougeL, .rougeLsum | . as $m
        | ("precision", "recall", "fmeasure") as $k | .interval[$k]
        | .[0] < $m[$k] and .[1] > $m[$k]] | length == 12 and all)' "$tmp/with"
}

# Half the records score 1, half 0: the percentiles of Binomial(100, 1/2).
@test "--intervals of a case known by hand, as JSON and as a table" {
    for ((i = 0; i < 50; i++)); do record a a; record a b; done >"$tmp/in"
    rouge --intervals --resamples 20000 "$tmp/in" | jq -e '.rouge1.interval.fmeasure == [0.4, 0.6] and .rouge2.interval.recall == [0, 0]'
    run -0 rouge --table --intervals --resamples 20000 --seed 9 "$tmp/in"
    [ "${lines[0]}" = 'percent    precision    recall         F    95 % interval' ]
    [ "${lines[1]}" = 'rouge1        50.000    50.000    50.000   40.000 to  60.000' ]
    [ "${lines[5]}" = '100 records, stemmed, 20000 resamples, seed 9' ]
}

@test "--intervals of no records, with --per-record, out of range" {
    rouge --intervals --resamples 10 /dev/null | jq -e '.count == 0 and .rouge1 == {precision: null, recall: null, fmeasure: null}'
    run -0 rouge --intervals --resamples 10 --table /dev/null
    [ "${lines[5]}" = '0 records, stemmed, 10 resamples, seed 1' ]
    run -2 rouge --intervals --resamples 10 --per-record /dev/null
    [ "$output" = 'rouge: --intervals and --per-record exclude each other' ]
    for n in 0 100001; do
        run -2 rouge --resamples "$n" /dev/null
        [[ $output == 'rouge: --resamples: '* ]]
    done
}

numbered() { # PREDICTION SUMMARY ID
    jq -cn --arg p "$1" --arg s "$2" --argjson i "$3" '{id: $i, prediction: $p, summary: $s}'
}

# 40 records that are right in one file, and in the other but for every fourth.
two_systems() {
    for ((i = 0; i < 40; i++)); do numbered a a $i; done >"$tmp/a"
    for ((i = 0; i < 40; i++)); do if ((i % 4)); then numbered a a $i; else numbered b a $i; fi; done >"$tmp/b"
}

@test "--compare: difference, interval and p values of a case known by hand" {
    two_systems
    rouge --compare "$tmp/b" --resamples 20000 "$tmp/a" >"$tmp/out"
    # Ten records decide: all signs alike in 2 of 1,024 patterns. The interval is Binomial(40, 1/4)'s,
    # whose P(X <= 15) is 0.9738; and P(|X - 10| >= 10) is 0.00058.
    jq -e '.resamples == 20000 and .seed == 1 and (.rouge1.compare.fmeasure | .difference == 0.25
        and (.interval | .[0] == 0.125 and (.[1] == 0.375 or .[1] == 0.4)) and (.p_randomisation - 2 / 1024 | fabs) < 0.0013
        and (.p_bootstrap - 0.00058 | fabs) < 0.0007)
        and (.rouge2.compare.recall | .difference == 0 and .p_bootstrap == 1 and .p_randomisation == 1)' "$tmp/out"
    rouge --compare "$tmp/a" --resamples 20000 "$tmp/b" | jq -e '.rouge1.compare.fmeasure.difference == -0.25'
    rouge --compare "$tmp/b" --resamples 20000 "$tmp/a" | cmp - "$tmp/out"
    run -0 rouge --compare "$tmp/b" --table "$tmp/a"
    [[ ${lines[5]} == '40 records, stemmed, 1000 resamples, seed 1' && ${lines[6]} == 'F '*'less other'*bootstrap*random ]]
    [[ ${lines[7]} == 'rouge1        +25.000  +1'*' to +'*'  p 0.00'*' p 0.00'* && ${lines[8]} == 'rouge2 '*' p 1.00000 p 1.00000' ]]
}

@test "--compare --id: order does not matter, numbers and strings differ" {
    two_systems
    rouge --compare "$tmp/b" "$tmp/a" >"$tmp/want"
    tac "$tmp/b" >"$tmp/turned"
    rouge --compare "$tmp/turned" --id id "$tmp/a" | cmp - "$tmp/want"
    { numbered a a '"\u0061"'; numbered a b 2; } >"$tmp/x"
    { numbered b b 2; echo '{"id":"\u0061","prediction":"a"}'; } >"$tmp/y"
    rouge --compare "$tmp/y" --id id "$tmp/x" | jq -e '.rouge1.compare.recall.difference == -0.5'
    sed 's/2/"2"/' "$tmp/y" >"$tmp/z"
    run -1 rouge --compare "$tmp/z" --id id "$tmp/x"
    [ "$output" = "rouge: $tmp/x:2:1: no partner in $tmp/z" ]
}

@test "--compare: files that do not pair, status 1 and the record named" {
    two_systems
    tac "$tmp/b" | sed 's/"summary":"a"/"summary":"c"/' >"$tmp/other"
    run -1 --separate-stderr rouge --compare "$tmp/other" "$tmp/a"
    [[ $output == '' && $stderr == "rouge: $tmp/a:1:"*": the reference differs from that of its partner, $tmp/other:1" ]]
    head -n 39 "$tmp/b" >"$tmp/other"
    run -1 rouge --compare "$tmp/other" "$tmp/a"
    [ "$output" = "rouge: $tmp/a:40:1: no partner in $tmp/other" ]
    { cat "$tmp/b"; numbered a a 77; } >"$tmp/other"
    for by in '' '--id=id'; do
        run -1 rouge --compare "$tmp/other" $by "$tmp/a"
        [ "$output" = "rouge: $tmp/other:41: 1 record without a partner, this one first" ]
    done
    { cat "$tmp/b"; numbered a a 5; } >"$tmp/other"
    run -1 rouge --compare "$tmp/other" --id id "$tmp/a"
    [ "$output" = "rouge: $tmp/other:41: the \"id\" of line 6 again" ]
    run -1 rouge --compare "$tmp/a" --id id "$tmp/other"
    [ "$output" = "rouge: $tmp/other:41:1: its partner, $tmp/a:6, is another record's, too" ]
    echo '{"prediction":"a","id":null}' >"$tmp/other"
    run -1 rouge --compare "$tmp/other" --id id "$tmp/a"
    [ "$output" = "rouge: $tmp/other:1:24: \"id\" is no string and no number" ]
}

@test "--compare with --skip-bad: pairs stay pairs, OTHER must be good" {
    two_systems
    { head -n 3 "$tmp/a"; echo nonsense; tail -n +5 "$tmp/a"; } >"$tmp/bad"
    run -3 --separate-stderr rouge --skip-bad --compare "$tmp/b" "$tmp/bad"
    jq -e '.count == 39 and (.rouge1.compare.recall.difference - 10 / 39 | fabs) < 1e-12' <<<"$output"
    run -1 --separate-stderr rouge --skip-bad --compare "$tmp/bad" "$tmp/a"
    [[ $output == '' && ${#stderr_lines[@]} == 1 && $stderr == "rouge: $tmp/bad:4:1: "* ]]
    run -4 rouge --compare "$tmp/none" "$tmp/a"
    [[ $output == *"$tmp/none"* ]]
}

@test "--compare of no records, --id alone, --per-record" {
    rouge --compare /dev/null /dev/null | jq -e '.count == 0 and .rouge1.fmeasure == null'
    run -2 rouge --id id /dev/null
    [ "$output" = 'rouge: --id needs --compare or --join' ]
    run -2 rouge --compare /dev/null --per-record /dev/null
    [ "$output" = 'rouge: --compare and --per-record exclude each other' ]
}

# Each record of the golden file with its own summary and those of the next two.
@test "several references: the best F of each measure, as one by one" {
    jq -c -s '. as $all | range(length) as $i | {prediction: $all[$i].prediction,
        refs: [$all[$i, ($i + 1) % length, ($i + 2) % length].summary]}' "$golden" >"$tmp/in"
    rouge --reference refs --per-record "$tmp/in" | jq -c .rouge >"$tmp/got"
    for n in 0 1 2; do
        jq -c "{prediction, summary: .refs[$n]}" "$tmp/in" | rouge --per-record | jq -c .rouge >"$tmp/$n"
    done
    jq -e -n --slurpfile got "$tmp/got" --slurpfile a "$tmp/0" --slurpfile b "$tmp/1" --slurpfile c "$tmp/2" '
        [range($got | length) as $i | ("rouge1", "rouge2", "rougeL", "rougeLsum") as $k
            | [$a[$i][$k], $b[$i][$k], $c[$i][$k]] as $all | ($all | map(.fmeasure) | max) as $best
            | $got[$i][$k] == ($all | map(select(.fmeasure == $best)) | first)] | length == 348 and all'
    # not all from the same reference
    ! cmp -s "$tmp/got" "$tmp/0"
}

@test "several references: spelling, one, none, what is no string" {
    echo '{"prediction":"a b","summary":[ "c\"]" ,	"\u0061 \\","b a"]}' >"$tmp/in"
    rouge "$tmp/in" | jq -e '.rouge1.fmeasure == 1 and .rougeL.fmeasure > 0.6 and .rouge1.precision == 1'
    rouge --compare "$tmp/in" "$tmp/in" | jq -e '.rouge1.compare.recall.difference == 0'
    echo '{"prediction":"a b","summary":["a"]}' | rouge >"$tmp/list"
    echo '{"prediction":"a b","summary":"a"}' | rouge | cmp - "$tmp/list"
    echo '{"prediction":"a","summary":[]}' >"$tmp/in"
    run -1 rouge "$tmp/in"
    [ "$output" = "rouge: $tmp/in:1:29: a list of no references" ]
    for item in 1 null '["a"]' '{}'; do
        echo '{"prediction":"a","summary":["a", '"$item"']}' >"$tmp/in"
        run -1 rouge "$tmp/in"
        [ "$output" = "rouge: $tmp/in:1:35: an item of \"summary\" is not a string" ]
    done
    record a a >>"$tmp/in"
    run -3 --separate-stderr rouge --skip-bad "$tmp/in"
    jq -e '.count == 1' <<<"$output"
}

@test "--worst N: the lowest ROUGE-L first, equals as they came" {
    rouge --per-record "$golden" | jq -c -s 'sort_by(.rouge.rougeL.fmeasure)[]' >"$tmp/sorted"
    for n in 1 2 30 87 10000; do
        rouge --worst "$n" "$golden" | jq -c . | cmp - <(head -n "$n" "$tmp/sorted")
    done
    run -0 rouge --worst 3 /dev/null
    [ "$output" = '' ]
    rouge --worst 0 "$golden" | jq -e '.count == 87'
    for option in --table --per-record --intervals --compare=x; do
        run -2 rouge --worst 3 "$option" "$golden"
        [[ $output == 'rouge: --worst excludes '* ]]
    done
    run -4 bash -c "rouge --worst 3 $golden >/dev/full"
}

# Stdin: rows of numbers. Stdout: for each column the mean, the 2.5th and 97.5th percentile of the means of 4,000
# resamples, and how often the mean is as far from 0 when each row's sign is drawn. Written without a look at the
# library's way: awk's own random numbers, sort for the order.
resample() {
    awk -v b=4000 'BEGIN { srand(20260101) }
        { for (c = 1; c <= NF; c++) { x[NR, c] = $c; mean[c] += $c } columns = NF }
        END { for (c = 1; c <= columns; c++) mean[c] /= NR
            for (r = 0; r < b; r++) {
                for (c = 1; c <= columns; c++) sum[c] = turned[c] = 0
                for (i = 1; i <= NR; i++) { k = 1 + int(rand() * NR); s = rand() < 0.5 ? -1 : 1
                    for (c = 1; c <= columns; c++) { sum[c] += x[k, c]; turned[c] += s * x[i, c] } }
                for (c = 1; c <= columns; c++) {
                    far = turned[c] * turned[c] >= mean[c] * mean[c] * NR * NR * (1 - 1e-9)
                    printf "%d %.12f %d %.12f\n", c, sum[c] / NR, far, mean[c] } } }' |
        sort -k1,1n -k2,2g | awk -v b=4000 '{ v[(NR - 1) % b] = $2; far += $3 }
            NR % b == 0 { at = .025 * (b - 1); k = int(at); t = at - k
                printf "%.12f %.12f %.12f %.12f\n", $4, v[k] + t * (v[k + 1] - v[k]), v[b - 1 - k] - t * (v[b - 1 - k] - v[b - 2 - k]), far / b
                far = 0 }'
}

rows='[.rouge.rouge1, .rouge.rouge2, .rouge.rougeL, .rouge.rougeLsum | .precision, .recall, .fmeasure] | @tsv'

# A percentile of resampled means has a standard error of 2.67 deviations / sqrt(resamples); an interval is 3.92
# deviations wide. Together 4 errors are 4.5 % of its width; one of 90 % would be off by 8 %.
@test "--intervals: an independent bootstrap gives the same to Monte Carlo error" {
    rouge --intervals --resamples 40000 "$golden" | jq -r '.rouge1, .rouge2, .rougeL, .rougeLsum
        | . as $m | ("precision", "recall", "fmeasure") as $k | [$m[$k], $m.interval[$k][]] | @tsv' >"$tmp/ours"
    rouge --per-record "$golden" | jq -r "$rows" | resample >"$tmp/theirs"
    paste "$tmp/ours" "$tmp/theirs" | awk 'function off(a, b) { return a > b ? a - b : b - a }
        off($1, $4) > 1e-9 || off($2, $5) > .045 * ($3 - $2) || off($3, $6) > .045 * ($3 - $2) || $3 - $2 < .01 { print; bad = 1 }
        END { exit bad || NR != 12 }'
}

# The same for two systems: the second one writes the golden predictions without every sixth word.
@test "--compare: an independent resampling gives the same interval and p to Monte Carlo error" {
    jq -c '.prediction |= ([splits(" ")] | [.[range(length) | select(. % 6 != 5)]] | join(" "))' "$golden" >"$tmp/b"
    rouge --compare "$tmp/b" --resamples 40000 "$golden" | jq -r '.rouge1, .rouge2, .rougeL, .rougeLsum | .compare
        | (.precision, .recall, .fmeasure) | [.difference, .interval[], .p_randomisation] | @tsv' >"$tmp/ours"
    paste <(rouge --per-record "$golden" | jq -r "$rows") <(rouge --per-record "$tmp/b" | jq -r "$rows") |
        awk '{ for (c = 1; c <= 12; c++) printf "%.17g%s", $c - $(c + 12), c < 12 ? " " : "\n" }' | resample >"$tmp/theirs"
    paste "$tmp/ours" "$tmp/theirs" >"$tmp/both"
    awk 'function off(a, b) { return a > b ? a - b : b - a }
        { width = $3 - $2; error = 4 * sqrt($4 * (1 - $4) / 4000) + 1e-3; close_to += $4 > .01 && $4 < .9 }
        off($1, $5) > 1e-9 || off($2, $6) > .045 * width || off($3, $7) > .045 * width || off($4, $8) > error { print; bad = 1 }
        END { exit bad || NR != 12 || close_to < 3 }' "$tmp/both"
}

@test "--tokenizer: other scripts as rouge_score with such a tokenizer" {
    for tokenizer in unicode char; do
        rouge --tokenizer $tokenizer --per-record testdata/golden/rouge/scripts.jsonl 2>"$tmp/err" |
            jq -e -s "$differ"' length == 13 and (map(off(.rouge; .'$tokenizer')) | max) < 1e-12'
        [ ! -s "$tmp/err" ]
        rouge --tokenizer $tokenizer --split-sentences <"$golden" | jq -r .signature >"$tmp/signature"
        grep -q "|words:$tokenizer|.*|lsum:sentences|" "$tmp/signature"
    done
}

@test "--tokenizer: on plain ASCII unicode is rouge, and char counts letters" {
    jq -c 'select(.summary + .prediction | explode | all(. < 128))' "$golden" >"$tmp/ascii"
    [ "$(wc -l <"$tmp/ascii")" -gt 70 ]
    rouge --per-record "$tmp/ascii" >"$tmp/want"
    rouge --per-record --tokenizer unicode "$tmp/ascii" | cmp - "$tmp/want"
    record 'a b, C7!' 'Abc 8' | rouge --tokenizer char --rouge 1,2,Lsum | jq -e '.rouge1.precision == 0.75
        and .rouge1.recall == 0.75 and .rouge2.precision * 3 == 2'
    run -2 rouge --tokenizer words "$golden"
}

@test "letters that --tokenizer rouge discards: one warning, counted" {
    { record 'Zoë is here' 'Zoe is here'; record 'plain' 'plain — “text”, 5 € 😀❤️'; record 'a' '東京'; } >"$tmp/in"
    run -0 --separate-stderr rouge "$tmp/in"
    [ "$stderr" = 'rouge: 2 of 3 records have letters beyond a to z, which are taken for spaces (see --tokenizer)' ]
    run -0 --separate-stderr rouge --tokenizer unicode "$tmp/in"
    [ "$stderr" = '' ]
    record 'İ K' 'k i' >"$tmp/in" # both are letters a to z in lower case
    run -0 --separate-stderr rouge "$tmp/in"
    [ "$stderr" = '' ]
    record 'naïve' b >"$tmp/b"
    run -0 --separate-stderr rouge --compare "$tmp/b" <<<"$(record a b)"
    [[ $stderr == 'rouge: 1 of 1 records have letters '* ]]
}

@test "--split-sentences: as if each sentence stood on a line" {
    jq -c . >"$tmp/flat" <<'END'
{"summary":"Ann meets Dr. Bob at 7. They sail. \"Really?\" Yes! it is late.","prediction":"They sail with Ann. Dr. Bob meets them late! Yes."}
{"summary":"One two three. Four five.","prediction":"Four five. One three."}
END
    jq -c . >"$tmp/lines" <<'END'
{"summary":"Ann meets Dr. Bob at 7.\nThey sail.\n\"Really?\"\nYes!\nit is late.","prediction":"They sail with Ann.\nDr. Bob meets them late!\nYes."}
{"summary":"One two three.\nFour five.","prediction":"Four five.\nOne three."}
END
    rouge --per-record "$tmp/lines" | jq -c .rouge >"$tmp/want"
    rouge --per-record --split-sentences "$tmp/flat" | jq -c .rouge | cmp - "$tmp/want"
    rouge --per-record --split-sentences "$tmp/lines" | jq -c .rouge | cmp - "$tmp/want"
    rouge --per-record "$tmp/flat" | jq -e -s 'all(.rouge | .rougeL == .rougeLsum)'
    jq -e -s 'all(.rougeL.fmeasure < .rougeLsum.fmeasure)' "$tmp/want"
}

@test "--references recipe: as labels that t5-tokenize has cut and decoded" {
    model=testdata/golden/tokenizer/spiece.model
    jq -c '{prediction: .summary, summary: .dialogue}' testdata/demo/test.jsonl >"$tmp/in" # long references
    for n in 1 12 50; do
        t5-tokenize -s $model --max-target $n --source prediction "$tmp/in" |
            jq -c '{kept: .prediction, output_ids: .labels}' |
            t5-tokenize -s $model --decode | jq -c '{prediction: .kept, summary: .prediction}' >"$tmp/cut"
        rouge --per-record "$tmp/cut" | jq -c .rouge >"$tmp/want"
        rouge --per-record --references recipe -s $model --max-target $n "$tmp/in" | jq -c .rouge | cmp - "$tmp/want"
    done
    rouge --per-record "$tmp/in" | jq -c .rouge >"$tmp/whole"
    run ! cmp -s "$tmp/whole" "$tmp/want"
    # several references are each cut; the default of 50 is in the signature
    jq -c '.summary |= [., "x"]' "$tmp/in" >"$tmp/list"
    rouge --references recipe --spiece testdata/demo "$tmp/list" | jq -e '.signature | contains("|reference:summary|tokens:50|")'
    run -4 rouge --references recipe -s "$tmp/none" "$tmp/in"
    [[ $output == *"$tmp/none"* ]]
    run -2 rouge --references recipe --max-target 0 "$tmp/in"
    run -2 rouge --references short "$tmp/in"
}

@test "--join: references from another file, by order or by id" {
    jq -c '{id: input_line_number, summary}' "$golden" >"$tmp/refs"
    jq -c '{id: input_line_number, prediction}' "$golden" >"$tmp/preds"
    rouge "$golden" >"$tmp/want" 2>/dev/null
    rouge --join "$tmp/refs" "$tmp/preds" 2>/dev/null | cmp - "$tmp/want"
    tac "$tmp/refs" >"$tmp/turned"
    rouge --join "$tmp/turned" --id id "$tmp/preds" 2>/dev/null | cmp - "$tmp/want"
    # the record's own reference does not count; a list in the file does
    jq -c '.summary = "zzz"' "$tmp/preds" | rouge --join "$tmp/refs" 2>/dev/null | cmp - "$tmp/want"
    jq -c '.summary |= ["zzz", .]' "$tmp/turned" | rouge --join - --id id "$tmp/preds" 2>/dev/null | cmp - "$tmp/want"
    # a second system without references, as well
    rouge --join "$tmp/refs" --compare "$tmp/preds" --id id "$tmp/preds" 2>/dev/null |
        jq -e '.rouge1.compare.fmeasure | .difference == 0 and .p_randomisation == 1'
}

@test "--join: files that do not pair, status 1 and the record named" {
    numbered a x 1 >"$tmp/preds"
    { numbered b a 1; numbered b a 2; } >"$tmp/refs"
    run -1 rouge --join "$tmp/refs" --id id "$tmp/preds"
    [ "$output" = "rouge: $tmp/refs:2: 1 record without a partner, this one first" ]
    numbered a x 3 >>"$tmp/preds"
    run -1 rouge --join "$tmp/refs" --id id "$tmp/preds"
    [ "$output" = "rouge: $tmp/preds:2:1: no partner in $tmp/refs" ]
    run -3 --separate-stderr rouge --skip-bad --join "$tmp/refs" --id id "$tmp/preds"
    jq -e '.count == 1 and .rouge1.fmeasure == 1' <<<"$output"
    echo '{"id":4,"summary":[]}' >>"$tmp/refs"
    run -1 rouge --join "$tmp/refs" "$tmp/preds"
    [ "$output" = "rouge: $tmp/refs:3:19: a list of no references" ]
    echo '{"id":4}' >"$tmp/refs"
    run -1 rouge --join "$tmp/refs" "$tmp/preds"
    [ "$output" = "rouge: $tmp/refs:1:1: no \"summary\"" ]
    run -4 rouge --join "$tmp/none" "$tmp/preds"
    run -2 rouge --join - --compare - "$tmp/preds"
    [ "$output" = 'rouge: standard input is asked for more than once' ]
    run -2 rouge --join -
    [ "$output" = 'rouge: standard input is asked for more than once' ]
}
