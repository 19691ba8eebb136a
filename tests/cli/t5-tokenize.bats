#!/usr/bin/env bats
# t5-tokenize.bats - the program: records in and out, decoding, packing, counting, threads, typed input, bad input,
# failing outputs; and, where it is present, the real T5 tokenizer on all of SAMSum validation. Ids case by case are compared
# in tests/unit/test_tokenizer.c.

bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return 1
    golden=testdata/golden/tokenizer
    model=$golden/spiece.model
    data=${T5_TEST_DATA:-../shared/data}
    tmp=$BATS_TEST_TMPDIR
    export TMPDIR=$tmp
}

tok() { t5-tokenize -s "$model" "$@"; }

need_real() {
    [ -f "$data/t5/spiece.model" ] || skip "no T5 tokenizer and SAMSum in $data (see T5_TEST_DATA)"
}

hash_of() { sha256sum | cut -d' ' -f1; }

@test "a record keeps its bytes and gains input_ids and labels" {
    printf '%s\n' '{ "id" : 1e0, "dialogue":"Anna: hello", "x":["\u0061"] ,"summary":"hello" }' >"$tmp/in"
    run -0 tok "$tmp/in"
    [ "$output" = '{ "id" : 1e0, "dialogue":"Anna: hello", "x":["\u0061"] ,"summary":"hello" ,"input_ids":[88,4,236,23,48,1],"labels":[236,23,48,1]}' ]
}

@test "without a target nothing is added for it; without a source the record is bad" {
    run -0 tok <<<'{"dialogue":"Anna: hello"}'
    [ "$output" = '{"dialogue":"Anna: hello","input_ids":[88,4,236,23,48,1]}' ]
    run -1 tok <<<'{"summary":"x"}'
    [ "$output" = 't5-tokenize: <stdin>:1:1: no "dialogue"' ]
}

@test "fields of an earlier run are replaced" {
    tok <<<'{"labels":[9],"dialogue":"Anna: hello","input_ids":[7,7],"summary":"hello"}' >"$tmp/once"
    [ "$(cat "$tmp/once")" = '{"dialogue":"Anna: hello","summary":"hello","input_ids":[88,4,236,23,48,1],"labels":[236,23,48,1]}' ]
    run -0 tok "$tmp/once"
    [ "$output" = "$(cat "$tmp/once")" ]
}

@test "--source, --target, --prefix" {
    run -0 tok --source a --target=b -p 'Anna: ' <<<'{"a":"hello","b":"Anna: hello"}'
    [ "$output" = '{"a":"hello","b":"Anna: hello","input_ids":[88,4,236,23,48,1],"labels":[88,4,236,23,48,1]}' ]
}

@test "--max-source and --max-target cut and keep the end" {
    run -0 tok --max-source 3 --max-target 1 <<<'{"dialogue":"Anna: hello","summary":"hello"}'
    [[ $output == *'"input_ids":[88,4,1],"labels":[1]}' ]]
    run -0 bash -c "jq -cn '{dialogue: (\"Anna: hello \" * 200), summary: (\"hello \" * 200)}' | t5-tokenize -s $model | jq -c '[(.input_ids, .labels) | length, .[-1]]'"
    [ "$output" = '[255,1,50,1]' ]
}

@test "--on-long: the limit itself is kept, one token more is cut, dropped or bad" {
    { echo '{"id":1,"dialogue":"Anna: hello","summary":"hello"}' # 6 and 4 tokens
      echo '{"id":2,"dialogue":"Anna: hello hello","summary":"hello"}'
      echo '{"id":3,"dialogue":"Anna","summary":"Anna: hello"}'
      echo '{"id":4,"dialogue":"Anna"}'; } >"$tmp/in"
    limits='--max-source 6 --max-target 4'
    tok $limits "$tmp/in" >"$tmp/cut"
    tok $limits --on-long truncate "$tmp/in" | cmp - "$tmp/cut"
    run -0 --separate-stderr tok $limits --on-long drop "$tmp/in"
    [ "$output" = "$(sed -n '1p;4p' "$tmp/cut")" ]
    [ "$stderr" = 't5-tokenize: 2 of 4 records dropped: longer than the limits' ]
    run -1 --separate-stderr tok $limits --on-long error "$tmp/in"
    [ "$output" = "$(sed -n 1p "$tmp/cut")" ]
    [ "$stderr" = "t5-tokenize: $tmp/in:2:20: 9 tokens, more than --max-source 6" ]
    run -3 --separate-stderr tok $limits --on-long error --skip-bad "$tmp/in"
    [ "$output" = "$(sed -n '1p;4p' "$tmp/cut")" ]
    [[ ${stderr_lines[1]} == *'/in:3:37: 6 tokens, more than --max-target 4' ]]
    [ "${stderr_lines[2]}" = 't5-tokenize: 2 of 4 records skipped' ]
    run -0 --separate-stderr tok --on-long drop "$tmp/in"
    [ "${#lines[@]} $stderr" = '4 ' ]
    echo '{"dialogue":"Anna: hello hello","summary":5}' >"$tmp/bad" # bad, not only too long
    run -1 tok $limits --on-long drop "$tmp/bad"
    run -2 tok --on-long drop --stats "$tmp/in"
    run -2 tok --on-long error --decode "$tmp/in"
}

@test "--on-long drop: the same bytes and count on any number of threads, packed or not" {
    many 3000 >"$tmp/in"
    jq -n --slurpfile all <(tok --max-source 100000 "$tmp/in") '$all[] | select(.input_ids | length <= 90) | .id' >"$tmp/want"
    [ "$(wc -l <"$tmp/want")" -gt 100 ]
    [ "$(wc -l <"$tmp/want")" -lt 2900 ]
    for j in 1 3; do
        tok -j $j --on-long drop --max-source 90 "$tmp/in" 2>"$tmp/err" | jq .id | cmp - "$tmp/want"
        [ "$(cat "$tmp/err")" = "t5-tokenize: $((3000 - $(wc -l <"$tmp/want"))) of 3000 records dropped: longer than the limits" ]
        tok -j $j --on-long drop --max-source 90 --to safetensors "$tmp/in" 2>"$tmp/err" >"$tmp/packed"
        grep -aq "\"input_offsets\":{[^}]*\"shape\":\[$(($(wc -l <"$tmp/want") + 1))\]" "$tmp/packed"
    done
}

@test "--template fills in fields; braces and escapes" {
    same() { # TEMPLATE SOURCE-TEXT: the ids are those of the text
        jq -cn '{who: "Anna", dialogue: "hello {who}\\n"}' >"$tmp/record"
        jq -cn --arg text "$2" '{dialogue: $text}' | tok | jq -c .input_ids >"$tmp/want"
        [ -s "$tmp/want" ]
        tok --template "$1" "$tmp/record" | jq -c .input_ids | diff - "$tmp/want"
    }
    same '{dialogue}' 'hello {who}\n'
    same 'Summarize:\n{dialogue}\nSummary:' $'Summarize:\nhello {who}\\n\nSummary:'
    same '{who}: {dialogue}{who}{who}' 'Anna: hello {who}\nAnnaAnna'
    same '{{{who}}} {{who}} }}{{' '{Anna} {who} }{'
    same 'a\\n\t\r{who}' $'a\\n\t\rAnna'
    run -0 tok --template '{who}: {dialogue}' <<<'{"who":"Anna","dialogue":"hello","summary":"hello"}'
    [ "$output" = '{"who":"Anna","dialogue":"hello","summary":"hello","input_ids":[88,4,236,23,48,1],"labels":[236,23,48,1]}' ]
    tok --template 'x {a}' --stats <<<'{"a":"y"}' | jq -e '.source.field == "x {a}" and .source.count == 1'
}

@test "--template: what stands behind the last field is never cut" {
    jq -cn '{dialogue: ("hello " * 300)}' >"$tmp/in"
    for j in 1 2; do
        tok -j $j --max-source 20 --template 'Anna: {dialogue}\nAnna:' "$tmp/in" | jq -c .input_ids >"$tmp/got"
        tok --max-source 18 -p 'Anna: ' "$tmp/in" | jq -c '.input_ids[:-1] + [88, 4, 1]' | diff - "$tmp/got"
    done
    tok --max-source 20 --template '{dialogue} \n' "$tmp/in" | jq -c .input_ids >"$tmp/got"
    tok --max-source 20 "$tmp/in" | jq -c .input_ids | diff - "$tmp/got"
    # a text that just fits is not touched
    run -0 tok --max-source 6 --template '{a} hello' <<<'{"a":"Anna:"}'
    [[ $output == *'"input_ids":[88,4,236,23,48,1]}' ]]
    run -1 tok --max-source 5 --on-long error --template '{a} hello' <<<'{"a":"Anna:"}'
    [ "$output" = 't5-tokenize: <stdin>:1:1: 6 tokens, more than --max-source 5' ]
    run -2 tok --max-source 3 --template '{dialogue} Anna:' "$tmp/in"
    [ "$output" = 't5-tokenize: --template: 2 tokens behind the last field leave no room in --max-source 3' ]
    run -0 tok --max-source 4 --template '{dialogue} Anna:' "$tmp/in"
    [[ $output == *'"input_ids":[236,88,4,1]}' ]]
}

@test "--template: bad templates are usage, bad fields bad records" {
    for bad in '{' '}' 'x' '' '{}' '{a' 'a}' '{a}{b' '{a{b}}' '{a}\' '{a}\x' '{a\n}' '{summary}' $'{a}\xff'; do
        run -2 --separate-stderr tok --template "$bad" <<<'{"a":"b"}'
        [[ -z $output && ${#stderr_lines[@]} == 1 && $stderr == 't5-tokenize: --template'* ]] || { echo "$bad: $stderr"; false; }
    done
    run -2 tok --template '{a}' -p 'x ' <<<'{"a":"b"}'
    run -2 tok --template '{a}' --source dialogue <<<'{"a":"b"}'
    run -1 tok --template '{a} {b}' <<<'{"a":"b"}'
    [ "$output" = 't5-tokenize: <stdin>:1:1: no "b"' ]
    run -1 tok --template '{a} {b}' <<<'{"a":"b","b":[1]}'
    [ "$output" = 't5-tokenize: <stdin>:1:14: "b": expected a string, found an array' ]
    run -3 --separate-stderr tok --skip-bad --template '{a}' <<<$'{"b":"b"}\n{"a":"Anna: hello"}'
    [ "$output" = '{"a":"Anna: hello","input_ids":[88,4,236,23,48,1]}' ]
}

@test "--report-unk: characters, how often, in how many records" {
    { echo '{"id":1,"dialogue":"hello 😂😂 \u4e2d hello😂","summary":"😂"}'
      echo '{"id":2,"dialogue":"hello","summary":"hello"}'
      echo '{"id":3,"dialogue":"中 <unk> \u0416","summary":"\u4e2d😂中"}'
      echo '{"id":4,"dialogue":"😂","summary":5}'; } >"$tmp/in"
    for j in 1 2; do
        run -3 --separate-stderr tok -j $j --skip-bad --report-unk "$tmp/unk" "$tmp/in"
        [ "${stderr_lines[1]}" = 't5-tokenize: 2 of 3 records have characters that become <unk>' ]
        [ "$(head -n 2 "$tmp/unk")" = '{"character":"😂","code":"U+1F602","count":5,"records":2}
{"character":"中","code":"U+4E2D","count":4,"records":2}' ]
        jq -e -s 'all(.count > 0) and any(.character == "Ж")' "$tmp/unk"
        [ "$output" = "$(tok --skip-bad "$tmp/in" 2>/dev/null)" ]
    done
    run -0 --separate-stderr tok --report-unk "$tmp/unk" <<<'{"dialogue":"hello"}'
    [ "$stderr" = 't5-tokenize: 0 of 1 records have characters that become <unk>' ]
    [ -f "$tmp/unk" ]
    [ ! -s "$tmp/unk" ]
}

@test "--report-unk: as far as the ids go" {
    echo '{"dialogue":"hello Ж hello中 😂","summary":"x"}' >"$tmp/in"
    codes() { tok --report-unk "$tmp/unk" --max-source "$@" "$tmp/in" 2>/dev/null; jq -j .character "$tmp/unk"; }
    [ "$(codes 4 -o /dev/null)" = '' ]                       # 3 ids of hello
    [ "$(codes 100 -o /dev/null | grep -o . | sort | tr -d '\n')" = "$(printf '%s\n' Ж 中 😂 | sort | tr -d '\n')" ]
    n=$(tok "$tmp/in" | jq '.input_ids | index(2)')
    [ "$(codes $((n + 1)) -o /dev/null)" = '' ]
    [ "$(codes $((n + 2)) -o /dev/null)" = 'Ж' ]
    [ "$(codes $((n + 2)) --template '{dialogue}' -o /dev/null)" = 'Ж' ]
    [ "$(codes $((n + 4)) --template '{dialogue} 😂' -o /dev/null | grep -o . | sort | tr -d '\n')" = "$(printf '%s\n' Ж 😂 | sort | tr -d '\n')" ]
    [ "$(codes 4 --stats -o /dev/null | wc -m)" = 3 ]
    [ "$(codes 4 --on-long drop -o /dev/null)" = '' ]
    echo '{"dialogue":"a <unk>","summary":"b"}' >"$tmp/in"
    [ "$(codes 100 --special-in-text -o /dev/null)" = '' ]
}

@test "--report-unk: the same file on any number of threads; none after a failure" {
    many 3000 | sed 's/the 7/the 😂/; s/Ben:9/中/g' >"$tmp/in"
    tok --report-unk "$tmp/1" "$tmp/in" >"$tmp/out" 2>"$tmp/err1"
    [ "$(wc -l <"$tmp/1")" -ge 2 ]
    for j in 2 5; do
        tok -j $j --report-unk "$tmp/$j" "$tmp/in" 2>"$tmp/err" | cmp - "$tmp/out"
        cmp "$tmp/1" "$tmp/$j"
        cmp "$tmp/err1" "$tmp/err"
    done
    run -1 tok --report-unk "$tmp/none" <<<'{"dialogue":1}'
    [ ! -e "$tmp/none" ]
    run -4 tok --report-unk "$tmp/no/dir" /dev/null
    for bad in "--report-unk $tmp/in" '--report-unk -' "--report-unk $tmp/o -o $tmp/o" "--report-unk $tmp/o --decode" \
        "--report-unk $tmp/o --segmentation sentencepiece"; do
        run -2 tok $bad "$tmp/in"
    done
}

@test "blank text is the end alone" {
    run -0 tok <<<'{"dialogue":" \n\t\u3000","summary":""}'
    [[ $output == *'"input_ids":[1],"labels":[1]}' ]]
}

@test "--special-in-text" {
    echo '{"dialogue":"hello </s> <extra_id_0>"}' >"$tmp/in"
    size=$(jq -s '[.[].output_ids[]] | max' $golden/decode.jsonl) # ids 0 to the last sentinel, which is <extra_id_0>
    run -0 bash -c "t5-tokenize -s $model --special-in-text $tmp/in | jq -c '.input_ids[-4:]'"
    [[ $output == *",1,3,$size,1]" || $output == *",1,$size,1]" ]]
    run -0 bash -c "t5-tokenize -s $model $tmp/in | jq -c '.input_ids | index(1) == length - 1'"
    [ "$output" = true ]
}

@test "cases of the golden file through the program, on one thread and on three" {
    jq -c 'select(.ids) | {dialogue: .text, ids}' $golden/cases.jsonl >"$tmp/in"
    for j in 1 3; do
        tok -j $j --max-source 100000 "$tmp/in" >"$tmp/out"
        jq -e -s 'length > 20 and all(.input_ids == .ids)' "$tmp/out"
    done
}

@test "text of 10,000 characters without a space" {
    jq -r .sha256 $golden/long.jsonl >"$tmp/want"
    jq -c '{dialogue: (.text * .repeat)}' $golden/long.jsonl | tok --max-source 1000000 | jq -c .input_ids >"$tmp/ids"
    while read -r line; do echo "$line" | hash_of; done <"$tmp/ids" >"$tmp/got"
    diff "$tmp/want" "$tmp/got"
}

@test "--segmentation sentencepiece gives the library's ids" {
    jq -c 'select(.library) | {dialogue: .text, library}' $golden/cases.jsonl |
        tok --segmentation sentencepiece | jq -e -s 'length > 5 and all(.input_ids == .library + [1])'
}

@test "--decode adds prediction" {
    tok --decode $golden/decode.jsonl | jq -c . >"$tmp/got"
    jq -c . $golden/decode.jsonl | diff - "$tmp/got"
    jq -c '{id: 7, output_ids}' $golden/decode.jsonl | tok --decode | jq -c .prediction >"$tmp/got"
    jq -c .prediction $golden/decode.jsonl | diff - "$tmp/got"
}

@test "--decode of several lists gives several texts" {
    run -0 tok --decode <<<'{"output_ids":[ [88,4,1], [236,23,48,1] , [] ]}'
    [ "$output" = '{"output_ids":[ [88,4,1], [236,23,48,1] , [] ],"prediction":["Anna:","hello",""]}' ]
    for bad in '[[1],2]' '[[[1]]]' '[["a]"]]' '[[1.5]]' '[[-1]]' '"x"' '[1,100000]'; do
        run -1 tok --decode <<<"{\"output_ids\":$bad}"
        [[ $output == 't5-tokenize: <stdin>:1:'*'"output_ids": '* ]]
    done
    run -1 tok --decode <<<'{}'
    [ "$output" = 't5-tokenize: <stdin>:1:1: no "output_ids"' ]
}

@test "encoding and decoding a plain text gives it back" {
    run -0 bash -c "echo '{\"dialogue\":\"Carla: The train to Berlin was late again.\"}' | t5-tokenize -s $model |
        jq -c '{output_ids: .input_ids}' | t5-tokenize -s $model --decode | jq -r .prediction"
    [ "$output" = 'Carla: The train to Berlin was late again.' ]
}

many() { # N records of different lengths, some blank lines between
    awk -v n="$1" 'BEGIN { srand(5); for (i = 0; i < n; i++) { s = ""; k = rand() * 60
        for (j = 0; j < k; j++) s = s sprintf("%s%d ", j % 3 ? "hello" : "Ben:", rand() * 50)
        printf "{\"id\":%d,\"dialogue\":\"%s\",\"summary\":\"the %d\"}\n%s", i, s, i, i % 50 ? "" : "\n" } }'
}

@test "any number of threads gives the same bytes" {
    many 6000 >"$tmp/in"
    tok "$tmp/in" >"$tmp/1"
    [ "$(wc -l <"$tmp/1")" = 6000 ]
    for j in 2 3 8; do
        tok -j $j "$tmp/in" | cmp - "$tmp/1"
        cat "$tmp/in" | tok -j $j | cmp - "$tmp/1"
    done
    tok --stats "$tmp/in" >"$tmp/s1"
    tok --stats -j 3 "$tmp/in" | cmp - "$tmp/s1"
}

@test "threads keep good records before a bad one, and skipped ones in order" {
    export ASAN_OPTIONS=use_sigaltstack=0 # ASan takes the stack of a cancelled thread for overrun there
    { many 3000; echo '{"dialogue":5}'; many 3000; echo '{'; many 10; } >"$tmp/in"
    for j in 1 2 4; do
        run -1 --separate-stderr tok -j $j "$tmp/in"
        [ "${#lines[@]}" = 3000 ]
        [[ $stderr == *'in:3061:13: "dialogue": expected a string, found a number' ]]
        run -3 --separate-stderr tok -j $j --skip-bad "$tmp/in"
        [ "${#lines[@]}" = 6010 ]
        [ "${#stderr_lines[@]}" = 3 ]
        [[ ${stderr_lines[0]} == *':3061:13: '* && ${stderr_lines[1]} == *':6122:2: record ends inside an object' ]]
        [ "${stderr_lines[2]}" = 't5-tokenize: 2 of 6012 records skipped' ]
    done
}

@test "a typed line is answered at once" {
    for j in 1 2; do
        mkfifo "$tmp/to$j" "$tmp/from$j"
        tok -j $j <"$tmp/to$j" >"$tmp/from$j" &
        pid=$!
        exec 7>"$tmp/to$j" 8<"$tmp/from$j"
        for text in one two; do
            echo "{\"dialogue\":\"$text\"}" >&7
            read -r -t 20 line <&8
            [[ $line == "{\"dialogue\":\"$text\",\"input_ids\":["*",1]}" ]]
        done
        exec 7>&-
        wait $pid
        exec 8<&-
    done
}

@test "a bad record ends the program though another thread waits for input" {
    export ASAN_OPTIONS=use_sigaltstack=0 # as above
    mkfifo "$tmp/to"
    tok -j 2 <"$tmp/to" >"$tmp/out" 2>"$tmp/err" &
    pid=$!
    exec 7>"$tmp/to"
    printf '{"dialogue":"one"}\nbad\n' >&7
    timeout 20 tail --pid=$pid -f /dev/null
    exec 7>&-
    status=0
    wait $pid || status=$?
    [ $status = 1 ]
    [ "$(wc -l <"$tmp/out")" = 1 ]
    grep -q "<stdin>:2:1: expected an object, found 'b'" "$tmp/err"
}

@test "a packed file holds what the records hold" {
    many 500 >"$tmp/in"
    tok "$tmp/in" >"$tmp/records"
    tok --to safetensors -o "$tmp/packed" "$tmp/in"
    tok --to safetensors -j 2 "$tmp/in" >"$tmp/packed2"
    cmp "$tmp/packed" "$tmp/packed2"
    header=$(($(od -An -tu8 -N8 "$tmp/packed")))
    tail -c +9 "$tmp/packed" | head -c $header >"$tmp/header"
    jq -e '.input_offsets.dtype == "I64" and .input_offsets.shape == [501] and .labels.dtype == "I32"' "$tmp/header"
    at() { # TENSOR TYPE: its numbers, one a line
        jq -r ".$1.data_offsets | @sh" "$tmp/header" | { read -r a b; tail -c +$((9 + header + a)) "$tmp/packed" | head -c $((b - a)); } | od -An -v -w1000000 -t"$2" | tr -s ' ' '\n' | sed 1d
    }
    at input_ids d4 | cmp - <(jq '.input_ids[]' "$tmp/records")
    at labels d4 | cmp - <(jq '.labels[]' "$tmp/records")
    at input_offsets d8 | cmp - <(jq -s 'reduce .[] as $r ([0]; . + [.[-1] + ($r.input_ids | length)]) | .[]' "$tmp/records")
    at label_offsets d8 | cmp - <(jq -s 'reduce .[] as $r ([0]; . + [.[-1] + ($r.labels | length)]) | .[]' "$tmp/records")
    [ -z "$(find "$tmp" -name 't5-tokens*')" ]
}

metadata() { # FILE: those of a packed file, sorted
    tail -c +9 "$1" | head -c $(($(od -An -tu8 -N8 "$1"))) | jq -c -S '.__metadata__ | del(.sha256)'
}

@test "a packed file says how it was made" {
    sum=$(hash_of <$model)
    echo '{"dialogue":"Anna: \"hello\"","a":"b"}' >"$tmp/in"
    tok --to safetensors -o "$tmp/packed" -p $'say "\\\n' "$tmp/in"
    [ "$(metadata "$tmp/packed")" = "$(jq -cnS --arg sum "$sum" '{format: "t5-tokens", prefix: "say \"\\\n", source: "dialogue",
        target: "summary", max_source: "255", max_target: "50", on_long: "truncate", segmentation: "viterbi", special_in_text: "false",
        tokenizer_sha256: $sum, tokenizer_size: "378"}')" ]
    mkdir "$tmp/hf"
    cp $model "$tmp/hf/"
    t5-tokenize -s "$tmp/hf" --to safetensors --template '{a}\n{dialogue}' --target x --max-source 9 --max-target 8 --on-long drop \
        --segmentation sentencepiece --special-in-text "$tmp/in" >"$tmp/packed"
    [ "$(metadata "$tmp/packed")" = "$(jq -cnS --arg sum "$sum" '{format: "t5-tokens", template: "{a}\\n{dialogue}", target: "x",
        max_source: "9", max_target: "8", on_long: "drop", segmentation: "sentencepiece", special_in_text: "true", tokenizer_sha256: $sum,
        tokenizer_size: "378"}')" ]
}

@test "a packed file of records without targets has no labels" {
    tok --to safetensors -o "$tmp/packed" <<<'{"dialogue":"Anna"}'
    run -0 grep -ac '"labels"' "$tmp/packed" || [ "$output" = 0 ]
    run -0 tok --to safetensors -o "$tmp/empty" /dev/null
    [ -s "$tmp/empty" ]
}

@test "--stats counts whole texts, as numpy does" {
    for n in 1 2 3 10; do for ((i = 0; i < n; i++)); do echo "{\"dialogue\":\"$(printf 'the %.0s' $(seq $n))\"}"; done; done >"$tmp/in"
    run -0 tok --stats --max-source 4 "$tmp/in" # 1 x 2, 2 x 3, 3 x 4, 10 x 11 tokens
    jq -e '.source == {field: "dialogue", count: 16, mean: 8.125, p50: 11, p85: 11, p90: 11, p95: 11, p99: 11, max: 11, limit: 4, truncated: 0.625}
        and .target.count == 0 and .target.mean == null and .target.truncated == null' <<<"$output"
    head -n 4 "$tmp/in" | tok --stats | jq -e '.source | .p50 == 3 and (.p85 - 3.55 | fabs) < 1e-12 and (.p99 - 3.97 | fabs) < 1e-12 and .truncated == 0'
}

@test "--skip-bad names 20 and counts the rest" {
    for i in $(seq 25); do echo '{"dialogue":1}'; done >"$tmp/in"
    echo '{"dialogue":"one"}' >>"$tmp/in"
    run -3 --separate-stderr tok --skip-bad "$tmp/in"
    [ "${#lines[@]}" = 1 ]
    [ "${#stderr_lines[@]}" = 21 ]
    [ "${stderr_lines[20]}" = 't5-tokenize: 25 of 26 records skipped' ]
    run -0 tok --skip-bad <<<'{"dialogue":"one"}'
}

@test "--max-line: the limit and one above; the next line is read" {
    line='{"dialogue":"one"}'
    run -0 tok --max-line ${#line} <<<"$line"
    run -1 tok --max-line $((${#line} - 1)) <<<"$line"
    [ "$output" = 't5-tokenize: <stdin>:1:1: line longer than 17 bytes (see --max-line)' ]
    run -3 --separate-stderr tok --skip-bad --max-line 18 <<<"$line$line"$'\n'"$line"
    [[ $output == '{"dialogue":"one","input_ids":['* ]]
}

@test "bad records: status 1, one line with the place, what precedes them is out" {
    while IFS='|' read -r text want; do
        printf "{\"dialogue\":\"one\"}\n$text" >"$tmp/in"
        run -1 --separate-stderr tok "$tmp/in"
        [ "${#lines[@]}" = 1 ]
        [ "${#stderr_lines[@]}" = 1 ]
        [[ $stderr == *"/in:2:$want" ]] || { echo "$text: $stderr"; false; }
        run -1 --separate-stderr tok <"$tmp/in"
        [ "$stderr" = "t5-tokenize: <stdin>:2:$want" ]
    done <<'ROWS'
{"dialogue":"a\xff"}\n|15: not valid UTF-8
{"dialogue":"a|15: record ends inside a string
{"dialogue":null}|13: "dialogue": expected a string, found null
{"dialogue":["a"]}|13: "dialogue": expected a string, found an array
{"dialogue":"a","dialogue":"b"}|17: duplicate key "dialogue"
{"dialogue":"\\ud800"}|14: lone surrogate escape
{"dialogue":"a","summary":7}|27: "summary": expected a string, found a number
{"dialogue":"a"} {"dialogue":"b"}|18: more text after the record
[]|1: expected an object, found '['
ROWS
}

@test "a missing input, a directory, a missing model" {
    run -4 tok "$tmp/none"
    [[ $output == *'/none: No such file or directory' ]]
    run -4 tok "$tmp"
    [[ $output == *': Is a directory' ]]
    run -4 t5-tokenize -s "$tmp/none" /dev/null
    [[ $output == *'/none: No such file or directory' ]]
}

@test "-s takes a directory with spiece.model" {
    mkdir "$tmp/hf"
    echo '{}' >"$tmp/hf/tokenizer.json"
    run -4 t5-tokenize -s "$tmp/hf" /dev/null
    [[ ${#lines[@]} == 1 && $output == "t5-tokenize: $tmp/hf: has tokenizer.json but no spiece.model, "* ]]
    rm "$tmp/hf/tokenizer.json"
    run -4 t5-tokenize -s "$tmp/hf" /dev/null
    [ "$output" = "t5-tokenize: $tmp/hf/spiece.model: No such file or directory" ]
    cp $model "$tmp/hf/spiece.model"
    for dir in "$tmp/hf" "$tmp/hf/"; do
        t5-tokenize -s "$dir" <<<'{"dialogue":"Anna: hello"}' >"$tmp/out"
        grep -q '"input_ids":\[88,4,236,23,48,1\]' "$tmp/out"
        t5-tokenize -s "$dir" --decode <<<'{"output_ids":[88,4]}' | jq -e '.prediction == "Anna:"'
    done
    head -c 100 $model >"$tmp/hf/spiece.model"
    run -1 t5-tokenize -s "$tmp/hf" /dev/null
    [[ $output == "t5-tokenize: $tmp/hf/spiece.model: "* ]]
}

@test "damaged models are refused, by both segmentations" {
    for how in viterbi sentencepiece; do
        for cut in 0 100 5000 200000; do
            head -c $cut $model >"$tmp/bad.model"
            run -1 t5-tokenize -s "$tmp/bad.model" --segmentation $how /dev/null
            [[ $output == 't5-tokenize: '*'bad.model: '* ]]
        done
    done
}

@test "wrong command lines: status 2" {
    for bad in '--max-source 0' '--max-source 10x' '--max-target -1' '-j 0' '-j 1000' '--max-line 1e3' '--to csv' '--to' '--nonsense' '-z' \
        '--decode --stats' '--decode --to safetensors' '--stats --to safetensors' '--segmentation bpe' '--source a --target a' \
        '--decode=1'; do
        run -2 tok $bad </dev/null
        [ "${#lines[@]}" = 1 ]
    done
    echo '{}' >"$tmp/x"
    ln "$tmp/x" "$tmp/y"
    run -2 tok -o "$tmp/x" "$tmp/y"
    [ "$(cat "$tmp/x")" = '{}' ]
    run -2 tok -p $'\xff' </dev/null
    [ "$output" = 't5-tokenize: --prefix: not valid UTF-8' ]
}

@test "a full disk, a closed pipe, closed descriptors" {
    many 3000 >"$tmp/in"
    run -4 bash -c "t5-tokenize -s $model $tmp/in >/dev/full"
    [ "$output" = 't5-tokenize: <stdout>: No space left on device' ]
    run -4 bash -c "t5-tokenize -s $model --stats $tmp/in >/dev/full"
    run -4 bash -c "t5-tokenize -s $model --to safetensors $tmp/in >/dev/full"
    run -0 bash -c "t5-tokenize -s $model $tmp/in | head -n 1 >/dev/null; [ \${PIPESTATUS[0]} = 141 ]"
    [ -z "$output" ]
    run -0 bash -c "trap '' PIPE; t5-tokenize -s $model -j 2 $tmp/in | head -n 1 >/dev/null; [ \${PIPESTATUS[0]} = 141 ]"
    [ -z "$output" ]
    run -4 bash -c "t5-tokenize -s $model $tmp/in >&-"
}

@test "-o leaves the old file when the run fails" {
    echo old >"$tmp/out"
    run -1 tok -o "$tmp/out" <<<'{"dialogue":1}'
    [ "$(cat "$tmp/out")" = old ]
    run -0 tok -o "$tmp/out" <<<'{"dialogue":"one"}'
    [[ $(cat "$tmp/out") == '{"dialogue":"one","input_ids":['* ]]
    [ "$(ls -A "$tmp" | grep -c t5tmp)" = 0 ]
    run -4 tok -o "$tmp/none/out" <<<'{"dialogue":"one"}'
}

@test "memory does not grow with the input" {
    ulimit -v 200000 2>/dev/null || skip "no address-space limit here"
    case $B in *san*) skip 'sanitizers reserve address space' ;; esac
    many 4000 >"$tmp/part"
    for ((i = 0; i < 25; i++)); do cat "$tmp/part"; done | tok -j 2 | tail -n 1 | jq -e '.id == 3999'
}

@test "real tokenizer: all of SAMSum validation equals transformers" {
    need_real
    want() { jq -r ".$1" $golden/real.json; }
    real() { t5-tokenize -s "$data/t5/spiece.model" "$@"; }
    val=$data/samsum/val.jsonl
    [ "$(real --max-source 1000000 --max-target 1000000 "$val" | jq -c '.input_ids, .labels' | hash_of)" = "$(want all)" ]
    [ "$(real -p 'summarize: ' "$val" | jq -c '.input_ids, .labels' | hash_of)" = "$(want recipe)" ]
    [ "$(real "$val" | jq -c '{output_ids: .labels}' | real --decode | jq -r .prediction | hash_of)" = "$(want decoded)" ]
    [ "$(jq -c '{dialogue: (.text * .repeat)}' $golden/long.jsonl | real --max-source 1000000 | jq -c .input_ids | hash_of)" = "$(want long)" ]
}

@test "real tokenizer: awkward text and special tokens equal transformers" {
    need_real
    jq -c 'select(.ids) | {dialogue: .text, ids}' $golden/real.jsonl | t5-tokenize -s "$data/t5/spiece.model" --max-source 100000 |
        jq -e -s 'length > 25 and all(.input_ids == .ids)'
    jq -c '{dialogue: .text, ids: (.ids // .special)}' $golden/real.jsonl |
        t5-tokenize -s "$data/t5/spiece.model" --special-in-text --max-source 100000 | jq -e -s 'length > 35 and all(.input_ids == .ids)'
}

@test "real tokenizer: the recipe's counts equal numpy's" {
    need_real
    t5-tokenize -s "$data/t5/spiece.model" --stats "$data/samsum/val.jsonl" >"$tmp/stats"
    jq -e -n --slurpfile a "$tmp/stats" --slurpfile b $golden/real.json '
        [("source", "target") as $f | ("count", "mean", "p50", "p85", "p90", "p95", "p99", "max") as $k
         | $a[0][$f][$k] - $b[0][$f][$k] | fabs] | max < 1e-9'
}
