#!/usr/bin/env bats
# completion.bats - the bash completion that is built beside the programs: it offers the options of --help and no
# others, and after an option what its value may be.

bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return 1
    tmp=$BATS_TEST_TMPDIR/files # bats itself writes into the other
    mkdir "$tmp"
    file=$(dirname "$(command -v t5-train)")/../completions/t5-tools.bash
    source "$file"
}

# What is offered for the last of the words, one a line, sorted.
offered() {
    COMP_WORDS=("$@")
    COMP_CWORD=$(($# - 1))
    _t5_tools "$1" "${!#}" "${COMP_WORDS[COMP_CWORD - 1]}"
    ((${#COMPREPLY[@]} == 0)) || printf '%s\n' "${COMPREPLY[@]}" | sort
}

# Every word of --help's left column that begins with a dash.
in_help() {
    "$1" --help | grep -oE '^ +(-[A-Za-z], )?--[a-z0-9-]+' | tr -d ' ' | tr , '\n' | sort
}

@test "every program has its completion, with the options of --help and no others" {
    local bad=0 n=0
    for source in tools/*.c; do
        p=${source##*/} p=${p%.c}
        in_help "$p" >"$tmp/help"
        [ "$(grep -c . "$tmp/help")" -ge 3 ] # -h, --help, --version at least
        offered "$p" - | diff -u --label "$p --help" --label "completion of $p" "$tmp/help" - || bad=1
        [ "$(complete -p "$p")" = "complete -F _t5_tools $p" ] || bad=1
        n=$((n + 1))
    done
    [ $bad = 0 ]
    [ $n -ge 5 ]
}

@test "a choice is completed after its long name, its letter and the sign" {
    for words in '--schedule c' '--schedule = c'; do
        run -0 offered t5-train $words
        [ "$output" = "$(t5-train --help | grep -oE -- '--schedule [^ ]+' | cut -d' ' -f2 | tr '|' '\n' | grep '^c' | sort)" ]
        [[ $output == *cosine* && $output != *linear* ]]
    done
    run -0 offered t5-quantize -t ''
    [[ $output == *int8* ]]
    diff <(echo "$output") <(offered t5-quantize --type '=')
}

@test "files, directories, and nothing where a number is due" {
    mkdir "$tmp/with space"
    touch "$tmp/with tokens"
    [ "$(offered t5-train --output "$tmp/w")" = "$tmp/with space" ]
    [ "$(offered t5-train --model "$tmp/w")" = "$tmp/with space"$'\n'"$tmp/with tokens" ]
    [ "$(offered t5-train "$tmp/w")" = "$tmp/with space"$'\n'"$tmp/with tokens" ]
    [ "$(offered t5-generate -a "$tmp/w")" = "$tmp/with space" ]
    [ "$(offered t5-quantize --merge "$tmp/w")" = "$tmp/with space"$'\n'"$tmp/with tokens" ]
    [ "$(offered t5-train --epochs '')" = '' ]
    [ "$(offered t5-train --epochs = '')" = '' ]
    [ "$(offered t5-train --resume --ep)" = --epochs ]
}
