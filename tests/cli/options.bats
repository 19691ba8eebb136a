#!/usr/bin/env bats
# options.bats - what every program shares: --help and the man page name the same options, --version, the verdicts on
# bad command lines, and output that cannot be written.

bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return 1
    tmp=$BATS_TEST_TMPDIR
    programs=()
    for source in tools/*.c; do
        source=${source##*/}
        programs+=("${source%.c}")
    done
}

# Options as --help lists them, one a line, sorted: "-h", "--help".
in_help() {
    "$1" --help | sed -n 's/^  \(-[A-Za-z]\), \(--[a-z0-9-]*\).*/\1\n\2/p; s/^      \(--[a-z0-9-]*\).*/\1/p' | sort
}

# Long names of the options that take a value; $2 picks among their lines of --help.
with_value() {
    "$1" --help | sed -n 's/^  \(-[A-Za-z], \|    \)\(--[a-z0-9-]*\) [^ ]'"$2"'$/\2/p'
}

# Options as the page's list gives them: the words after Fl on an .It line, up to the next macro.
in_page() {
    awk '$1 == ".It" { flag = 0
        for (i = 2; i <= NF; i++)
            if ($i == "Fl") flag = 1
            else if ($i ~ /^[A-Z][a-z]$/) flag = 0
            else if (flag && $i !~ /^[,.;:|()]$/) print "-" $i }' "man/$1.1" | sort
}

@test "every program has a man page, whose options are those of --help" {
    [ "${#programs[@]}" -gt 0 ]
    local bad=0
    for p in "${programs[@]}"; do
        [ -f "man/$p.1" ] || { echo "man/$p.1 is missing"; bad=1; continue; }
        in_help "$p" >"$tmp/help"
        in_page "$p" >"$tmp/page"
        [ "$(grep -c . "$tmp/help")" -ge 3 ] # -h, --help, --version at least
        diff -u --label "$p --help" --label "man/$p.1" "$tmp/help" "$tmp/page" || bad=1
    done
    [ $bad = 0 ]
}

@test "mandoc has no warning about any page" {
    for page in man/*.[157]; do
        run mandoc -T lint -W warning "$page"
        [ "$status" = 0 ] || { echo "$output"; false; }
    done
}

@test "pages of programs have exit statuses and examples" {
    for page in man/*.1; do
        grep -q '^\.Sh EXIT STATUS' "$page"
        grep -q '^\.Sh EXAMPLES' "$page"
    done
}

@test "--help starts with a usage line, --version names program and version" {
    for p in "${programs[@]}"; do
        run -0 --separate-stderr "$p" --help
        [[ ${lines[0]} == "usage: $p [OPTION]..."* && -z $stderr ]]
        run -0 --separate-stderr "$p" --version
        [[ $output =~ ^$p\ [^\ ]+$ && -z $stderr ]]
    done
}

@test "an unknown option, a missing value, a value too many: status 2 and one line" {
    for p in "${programs[@]}"; do
        for option in --no-such-option -_ --help=1 --version=1; do
            run -2 --separate-stderr "$p" "$option"
            [[ $output == '' && ${#stderr_lines[@]} == 1 && $stderr == "$p: "*"$option"* ]]
        done
        for option in $(with_value "$p" '.*'); do
            run -2 --separate-stderr "$p" "$option"
            [[ $output == '' && ${#stderr_lines[@]} == 1 && $stderr == "$p: "*"$option"* ]]
        done
    done
}

@test "numbers are read strictly: status 2, the option named" {
    for p in "${programs[@]}"; do
        # An option with a number as its default takes a number.
        for option in $(with_value "$p" '.*\[[0-9.e+-]*\]'); do
            for value in 10x 1e400 nan inf 0x10 '' ' 1' 1,5; do
                run -2 --separate-stderr "$p" "$option" "$value"
                [[ $output == '' && ${#stderr_lines[@]} == 1 && $stderr == "$p: $option: "* ]] ||
                    { echo "$p $option '$value': $stderr"; false; }
            done
        done
    done
}

@test "control bytes of a command line do not reach the terminal" {
    for p in "${programs[@]}"; do
        run -2 "$p" $'--\e[31m\nred'
        [[ ${#lines[@]} == 1 && $output != *$'\e'* && $output == *'\x1b'* ]]
    done
}

@test "standard output that is full or closed: status 4" {
    for p in "${programs[@]}"; do
        for option in --help --version; do
            run -4 bash -c "$p $option >/dev/full"
            [ "$output" = "$p: <stdout>: No space left on device" ]
            run -4 bash -c "$p $option >&-"
            [ "$output" = "$p: standard output is closed" ]
        done
    done
}

@test "standard input or standard error that is closed: status 4" {
    for p in "${programs[@]}"; do
        run -4 bash -c "$p --version <&-"
        [ "$output" = "$p: standard input is closed" ]
        run -4 bash -c "$p --version 2>&-"
        [ "$output" = '' ]
    done
}
