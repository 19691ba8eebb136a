#!/usr/bin/env bats
# fetch.bats - pipelines/fetch.sh against hubs of our own: files, and a server on this machine. No network.

setup_file() {
    cd "$BATS_TEST_DIRNAME/../.."
    export demo="$PWD/testdata/demo" fetch="$PWD/pipelines/fetch.sh" server="$PWD/tests/recipes/hub.sh" T5_TRIES=3
}

setup() {
    cd "$BATS_TEST_TMPDIR"
    unset T5_SUMS T5_SAMSUM
    export T5_HUB="file://$PWD/hub" ROOT="$PWD/hub"
}

teardown() { [ -z "${listening:-}" ] || kill "$listening"; }

# publish REPO FILE FROM [small]: a hub's file, with a Git-LFS pointer unless it is small
publish() {
    local at="hub/$1" oid size
    mkdir -p "$at/raw/main" "$at/resolve/main"
    cp "$3" "$at/resolve/main/$2"
    if [ "${4:-}" = small ]; then cp "$3" "$at/raw/main/$2"; return; fi
    oid=$(sha256sum < "$3" | cut -d ' ' -f 1) size=$(stat -c %s "$3")
    printf 'version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %s\n' "$oid" "$size" > "$at/raw/main/$2"
}

publish_demo() { # as google/flan-t5-small
    publish google/flan-t5-small config.json "$demo/base/config.json" small
    publish google/flan-t5-small spiece.model "$demo/spiece.model"
    publish google/flan-t5-small model.safetensors "$demo/base/model.safetensors"
}

serve() { # the hub over HTTP: T5_HUB becomes its address
    socat -d -d TCP-LISTEN:0,bind=127.0.0.1,fork "EXEC:$server" 2> socat.log 3>&- & listening=$!
    until grep -q 'listening on' socat.log; do sleep 0.02; done
    T5_HUB=http://$(sed -n 's/.*listening on AF=2 //p' socat.log)
}

@test "fetch: a model from files: whole, checked, and a model that runs" {
    publish_demo
    "$fetch" flan-t5-small
    cmp "$demo/base/model.safetensors" models/flan-t5-small/model.safetensors
    [ "$(ls models/flan-t5-small | tr '\n' ' ')" = "SHA256SUMS config.json model.safetensors spiece.model " ]
    (cd models/flan-t5-small && sha256sum --quiet -c SHA256SUMS && [ "$(wc -l < SHA256SUMS)" = 3 ])
    head -n 2 "$demo/test.jsonl" | t5-tokenize -s models/flan-t5-small | t5-generate -m models/flan-t5-small |
        jq -se 'length == 2'
}

@test "fetch: shards by their index, .bin where there are no safetensors, another owner, -o" {
    publish me/tiny config.json "$demo/base/config.json" small
    publish me/tiny spiece.model "$demo/spiece.model"
    publish me/tiny tokenizer.json <(echo '{}') small
    for i in 1 2 3; do
        head -c $((1000 * i)) /dev/urandom > shard
        publish me/tiny pytorch_model-0000$i-of-00003.bin shard
    done
    echo '{"weight_map": {"a": "pytorch_model-00001-of-00003.bin", "b": "pytorch_model-00003-of-00003.bin",
        "c": "pytorch_model-00002-of-00003.bin", "d": "pytorch_model-00001-of-00003.bin"}}' > index
    publish me/tiny pytorch_model.bin.index.json index small
    "$fetch" -o tiny me/tiny
    (cd tiny && sha256sum --quiet -c SHA256SUMS && [ "$(wc -l < SHA256SUMS)" = 7 ])
    cmp shard tiny/pytorch_model-00003-of-00003.bin

    # A name that leads out of the directory is no shard.
    sed 's,pytorch_model-00002-of-00003.bin,../../evil.bin,' index > evil
    publish me/evil config.json "$demo/base/config.json" small
    publish me/evil spiece.model "$demo/spiece.model"
    publish me/evil model.safetensors.index.json evil small
    run "$fetch" me/evil
    [ "$status" -eq 1 ]
    [[ $output == *"index.json: no list of shards"* ]]
}

@test "fetch: a stopped run goes on from its part; what is complete is not fetched again" {
    publish_demo; serve
    mkdir -p models/flan-t5-small
    head -c 1000000 "$demo/base/model.safetensors" > models/flan-t5-small/model.safetensors.part
    "$fetch" flan-t5-small
    cmp "$demo/base/model.safetensors" models/flan-t5-small/model.safetensors
    grep -q '/resolve/main/model.safetensors 1000000$' hub/.log

    rm hub/.log
    "$fetch" flan-t5-small
    run grep resolve hub/.log
    [ "$status" -eq 1 ]
    grep -q '/raw/main/model.safetensors 0$' hub/.log
}

@test "fetch: a connection that breaks is taken up again, and given up in the end" {
    publish_demo; serve
    echo 2000000 > hub/.cut
    run "$fetch" flan-t5-small
    [ "$status" -eq 0 ]
    cmp "$demo/base/model.safetensors" models/flan-t5-small/model.safetensors
    [ "$(grep -c '/resolve/main/model.safetensors' hub/.log)" -eq 2 ]
    grep -q '/resolve/main/model.safetensors 2000000$' hub/.log

    rm -r models; echo 100 > hub/.cut
    T5_TRIES=1 run "$fetch" flan-t5-small
    [ "$status" -eq 4 ]
    [[ $output == *"the same command goes on"* ]]
}

@test "fetch: wrong bytes are refused and removed: size, hash, a part of something else, a table" {
    publish_demo
    at=hub/google/flan-t5-small/resolve/main/model.safetensors
    head -c 1234567 "$demo/base/model.safetensors" > $at
    run "$fetch" flan-t5-small
    [ "$status" -eq 1 ]
    [[ $output == *"model.safetensors: $(stat -c %s "$demo/base/model.safetensors") bytes expected, 1234567 found; removed"* ]]
    [ ! -e models/flan-t5-small/model.safetensors ]
    [ ! -e models/flan-t5-small/model.safetensors.part ]

    tr 'a' 'b' < "$demo/base/model.safetensors" > $at
    run "$fetch" flan-t5-small
    [ "$status" -eq 1 ]
    [[ $output == *"model.safetensors: SHA-256 "*" expected, "*" found; removed"* ]]
    [ ! -e models/flan-t5-small/model.safetensors ]

    publish_demo
    head -c 500 /dev/zero > models/flan-t5-small/model.safetensors.part
    run "$fetch" flan-t5-small
    [ "$status" -eq 1 ]
    run "$fetch" flan-t5-small
    [ "$status" -eq 0 ]

    sha256sum < "$demo/spiece.model" | sed 's/-$/config.json/' > table
    T5_SUMS=table run "$fetch" flan-t5-small
    [ "$status" -eq 1 ]
    [[ $output == *"config.json: SHA-256 "* ]]
    T5_SUMS=models/flan-t5-small/SHA256SUMS "$fetch" -o again flan-t5-small
}

@test "fetch: no network, no hub, no such model: what to place where" {
    T5_HUB=http://127.0.0.1:9 run "$fetch" flan-t5-xxl
    [ "$status" -eq 4 ]
    [[ $output == *"by hand: place config.json, spiece.model and the weights"*"of google/flan-t5-xxl into models/flan-t5-xxl/"* ]]
    T5_SAMSUM=http://127.0.0.1:9/corpus.7z run "$fetch" samsum
    [ "$status" -eq 4 ]
    [[ $output == *"by hand: place corpus.7z, SAMSum's archive, into samsum/"* ]]
    T5_HUB='' run "$fetch" flan-t5-small
    [ "$status" -eq 2 ]
    [[ $output == *"T5_HUB"*"by hand"* ]]
    mkdir hub; serve
    run "$fetch" flan-t5-small
    [ "$status" -eq 4 ]
    [[ $output == *"no config.json"*"by hand"* ]]
    for bad in "" "a b" "../etc/passwd" "-x flan-t5-small"; do
        # shellcheck disable=SC2086
        run "$fetch" $bad
        [ "$status" -eq 2 ]
    done
    [ -z "$(find . -name '*.part')" ]
}

@test "fetch: a login page is no model" {
    echo '<html>Please log in</html>' > page
    publish google/flan-t5-small config.json page small
    run "$fetch" flan-t5-small
    [ "$status" -eq 1 ]
    [[ $output == *"config.json: not a T5's"* ]]
}

@test "fetch: SAMSum's archive, fetched or laid down; its records are counted" {
    mkdir made
    for split in train val test; do head -n 10 "$demo/$split.jsonl" | jq -s . > "made/$split.json"; done
    (cd made && 7z a corpus.7z train.json val.json test.json > 7z.log)
    T5_SAMSUM="file://$PWD/made/corpus.7z" "$fetch" samsum
    for split in train val test; do head -n 10 "$demo/$split.jsonl" | jq -c . | cmp - samsum/$split.jsonl; done
    [ "$(ls samsum | tr '\n' ' ')" = "SHA256SUMS corpus.7z test.jsonl train.jsonl val.jsonl " ]

    mkdir laid
    cp made/corpus.7z laid/
    run "$fetch" -o laid samsum
    [ "$status" -eq 1 ]
    [[ $output == *"train.json: 14732 records expected, 10 found"* ]]

    echo '<html>403</html>' > page
    T5_SAMSUM="file://$PWD/page" run "$fetch" -o page.d samsum
    [ "$status" -eq 1 ]
    [[ $output == *"not a 7z archive"* ]]
    [ -z "$(ls page.d)" ]
}
