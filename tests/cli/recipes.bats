#!/usr/bin/env bats
# recipes.bats - what holds for every recipe in pipelines/; what each does is tested in tests/recipes.

setup() { cd "$BATS_TEST_DIRNAME/../.."; }

@test "recipes: each has a test, and is named in README.md, pipelines/README.md and t5-tools(7)" {
    for recipe in pipelines/*.sh pipelines/*/Makefile pipelines/demo/run.sh; do
        name=${recipe#pipelines/}
        test=${name%/*}
        [ -f "tests/recipes/${test%.sh}.bats" ]
        grep -qF "$recipe" README.md
        grep -qF "$name" pipelines/README.md
        grep -qF "$name" man/t5-tools.7
    done
}

@test "recipes: --help of a script is its head; without operands it is bad usage" {
    run bash pipelines/demo/run.sh --help
    [ "$status" -eq 0 ]
    [[ $output == *"usage: "*"pipelines/demo/run.sh"* ]]
    for script in pipelines/*.sh; do
        run "$script" --help
        [ "$status" -eq 0 ]
        [[ ${lines[0]} == "${script#pipelines/} - "* ]]
        [[ $output == *"usage: "*"$script"* ]]
        run "$script"
        [ "$status" -eq 2 ]
        [ "${#lines[@]}" -eq 1 ]
        [[ $output == "${script#pipelines/}: "*"--help"* ]]
    done
}
