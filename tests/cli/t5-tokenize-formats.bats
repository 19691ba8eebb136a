#!/usr/bin/env bats
# t5-tokenize-formats.bats - the program on JSON arrays and CSV. Every verdict on them, and reads of a byte at a time:
# tests/unit/test_formats.c.

bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return 1
    model=testdata/golden/tokenizer/spiece.model
    tmp=$BATS_TEST_TMPDIR
    export TMPDIR=$tmp
    lines=$tmp/in.jsonl
    jq -cn 'range(2000) | {id: ., dialogue: ("Anna: hello \(.)\r\nBen: \"the, \(. * .)\"" * (1 + . % 7)), summary: "hello \\ \(.)"}' >"$lines"
    tok --input-format jsonl "$lines" >"$tmp/want"
}

tok() { t5-tokenize -s "$model" "$@"; }

@test "a JSON array gives what its lines give, whatever its layout, threads and way in" {
    jq -s . "$lines" >"$tmp/in.json" # over many lines
    jq -cs . "$lines" >"$tmp/dense"
    jq -s --tab . "$lines" | sed 's/$/\r/' >"$tmp/crlf"
    for j in 1 3; do
        tok -j $j "$tmp/dense" | cmp - "$tmp/want"
        tok -j $j "$tmp/in.json" | jq -c . | cmp - "$tmp/want"
        tok -j $j <"$tmp/crlf" | jq -c . | cmp - "$tmp/want"
        jq . "$lines" | tok -j $j --input-format json | jq -c . | cmp - "$tmp/want" # no array at all
    done
    tok "$tmp/in.json" | head -n 3 >"$tmp/three"
    [ "$(wc -l <"$tmp/three")" = 3 ]
    tok --to safetensors -o "$tmp/a" --input-format jsonl "$lines"
    tok --to safetensors -o "$tmp/b" "$tmp/in.json"
    cmp "$tmp/a" "$tmp/b"
}

@test "CSV gives what its lines give, strings throughout" {
    { printf 'id,dialogue,summary\r\n'; jq -r '[.id, .dialogue, .summary] | @csv + "\r"' "$lines"; } >"$tmp/in.csv"
    jq -c '.id |= tostring' "$tmp/want" >"$tmp/strings"
    for j in 1 3; do
        tok -j $j "$tmp/in.csv" | cmp - "$tmp/strings"
        tok -j $j --input-format csv <"$tmp/in.csv" | cmp - "$tmp/strings"
    done
    { printf '\xef\xbb\xbf'; tr -d '\r' <"$tmp/in.csv"; } >"$tmp/unix.CSV" # CRs in fields, too
    jq -c '.id |= tostring | .dialogue |= gsub("\r"; "")' "$tmp/want" >"$tmp/strings"
    tok "$tmp/unix.CSV" | cmp - "$tmp/strings"
}

@test "files of different formats in one run; each is judged by itself" {
    printf 'dialogue,id\nhello,1\n' >"$tmp/a.csv"
    printf '{"dialogue":"hello"}\n' >"$tmp/b.json"
    printf '[{"dialogue":"hello"}]' >"$tmp/c.json"
    printf 'id,dialogue\n2,hello\n' >"$tmp/d.csv"
    run -0 bash -c "t5-tokenize -s $model $tmp/a.csv $tmp/b.json - $tmp/d.csv <$tmp/c.json | jq -c '[.id, .input_ids]'"
    [ "$output" = $'["1",[236,23,48,1]]\n[null,[236,23,48,1]]\n[null,[236,23,48,1]]\n["2",[236,23,48,1]]' ]
}

@test "bad records are named by number and place, and passed over" {
    printf '[{"dialogue":"hello"},\n{"dialogue":"hello",\n "summary": 5},\n {}, {"dialogue":"Anna"}]' >"$tmp/in.json"
    run -3 --separate-stderr tok --skip-bad "$tmp/in.json"
    [ "${#lines[@]}" = 2 ]
    [ "${stderr_lines[0]}" = "t5-tokenize: $tmp/in.json:3:13: record 2: \"summary\": expected a string, found a number" ]
    [ "${stderr_lines[1]}" = "t5-tokenize: $tmp/in.json:4:2: record 3: no \"dialogue\"" ]
    run -1 --separate-stderr tok "$tmp/in.json"
    [ "${#lines[@]} ${#stderr_lines[@]}" = '1 1' ]
    printf 'dialogue,summary\n"hello\nhello",hello\nx\n"Anna: hello",Anna\n' >"$tmp/in.csv"
    run -3 --separate-stderr tok --skip-bad --on-long error --max-source 5 "$tmp/in.csv"
    [ "$output" = '' ]
    [[ ${stderr_lines[0]} == "t5-tokenize: $tmp/in.csv:2: record 1: "*' tokens, more than --max-source 5' ]]
    [ "${stderr_lines[1]}" = "t5-tokenize: $tmp/in.csv:4:1: record 2: 1 field where the header has 2" ]
    [ "${stderr_lines[2]}" = "t5-tokenize: $tmp/in.csv:5: record 3: 6 tokens, more than --max-source 5" ]
    run -1 tok "$tmp/in.csv" --source text
    [ "$output" = "t5-tokenize: $tmp/in.csv:2: record 1: no \"text\"" ]
}

@test "a broken array ends the run, with --skip-bad too; what precedes it is out" {
    for rest in '' ',' ',]' '}' ' {}' '] x'; do
        printf '[{"dialogue":"hello"}%s' "$rest" >"$tmp/in.json"
        run -1 --separate-stderr tok --skip-bad "$tmp/in.json"
        [ "${#lines[@]} ${#stderr_lines[@]}" = '1 1' ]
        [[ $stderr == "t5-tokenize: $tmp/in.json:1:"* ]]
    done
}

@test "the wrong format is named" {
    run -1 tok --input-format jsonl <<<'[{"dialogue":"x"}]'
    [[ $output == *'(this looks like a JSON array;'* ]]
    run -1 tok <<<'id,dialogue'
    [[ $output == *'(this looks like CSV; t5-tokenize --input-format csv reads that)' ]]
    run -1 tok <<<$'{\n  "dialogue": "x"\n}'
    [[ $output == *'(this looks like an object over several lines; t5-tokenize --input-format json reads that)' ]]
    run -2 tok --input-format xml
}

@test "a record is answered before the next one comes" {
    for format in json csv; do
        mkfifo "$tmp/$format"
        tok --input-format $format <"$tmp/$format" >"$tmp/out" &
        { if [ $format = json ]; then printf '[{"dialogue":\n"hello"}, {"di'; else printf 'dialogue\nhello\n"Ann'; fi
          for ((i = 0; i < 100; i++)); do [ ! -s "$tmp/out" ] || break; sleep 0.05; done
          jq -c .input_ids "$tmp/out" >"$tmp/early"
          if [ $format = json ]; then printf 'alogue":"hello"}]'; else printf 'a"\n'; fi; } >"$tmp/$format"
        wait $!
        [ "$(cat "$tmp/early")" = '[236,23,48,1]' ]
        [ "$(wc -l <"$tmp/out")" = 2 ]
    done
}
