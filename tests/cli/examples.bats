#!/usr/bin/env bats
# examples.bats - the commands that the man pages show: a shell can read them, and the options in them exist.

bats_require_minimum_version 1.5.0

setup() {
    cd "$BATS_TEST_DIRNAME/../.." || return 1
    tmp=$BATS_TEST_TMPDIR/files # bats itself writes into the other
    mkdir "$tmp"
}

# Each display of the page's EXAMPLES to a file $tmp/PAGE.N, as it looks when it is printed.
extract() {
    awk -v out="$tmp/${1##*/}" '
        /^\.Sh/ { on = $2 == "EXAMPLES" }
        on && /^\.Bd -literal/ { n++; take = 1; next }
        /^\.Ed/ { take = 0 }
        take { gsub(/\\e/, "\\"); gsub(/\\&/, ""); print > (out "." n) }' "$1"
}

# Calls of our programs in displays and in quoted words, a line "PROGRAM option...": up to a pipe or the end.
calls() {
    sed -n -e '/^\.Bd -literal/,/^\.Ed/{/^\./!p}' -e 's/^\.Ql \(.*[^ .,]\)[ .,]*$/\1/p' "$1" |
        sed -e 's/\\e$/\\/' -e ':more' -e '/\\$/{N;s/\\\n */ /;b more}' |
        grep -oE "(^|[ '\$(])(t5-[a-z]+|rouge) [^|;]*" | sed "s/^[ '\$(]*//"
}

@test "every example can be read by a shell" {
    local n=0
    for page in man/*.1; do extract "$page"; done
    for example in "$tmp"/*; do
        bash -n "$example" || { cat "$example"; false; }
        n=$((n + 1))
    done
    [ $n -ge 20 ]
}

@test "every option in a command that a page shows is one of its program's" {
    local bad=0 n=0
    for page in man/*.[17]; do
        calls "$page" >"$tmp/calls"
        while read -r program words; do
            for option in $(grep -oE "(^| )(--[a-z][a-z0-9-]*|-[A-Za-z])( |=|$)" <<<"${words// /  }" | tr -d ' ='); do
                "$program" --help | grep -qE -- "^ +(-[A-Za-z], )?$option( |,|$)" ||
                    { echo "$page: $program has no $option"; bad=1; }
                n=$((n + 1))
            done
        done <"$tmp/calls"
    done
    [ $n -ge 50 ]
    [ $bad = 0 ]
}
