#!/bin/sh
# remake.sh FOLDER - every golden file anew in FOLDER, then how it differs from testdata/golden: exit status 1
# when it does. Another processor or another version of torch moves the last digits: see testdata/README.md.
# SPDX-License-Identifier: MIT
set -eu
new=${1:?usage: remake.sh FOLDER}
python=${T5_PEER_PYTHON:-python3}
scripts='models logprobs generate transitions sampling training formats bin rouge tokenizer'
case $new in testdata*) echo 'remake.sh: FOLDER lies in testdata' >&2; exit 2 ;; esac
rm -rf "$new"
for script in $scripts; do
    "$python" "tests/golden/$script.py" "$new"
done
if "$python" -c 'import bitsandbytes' 2>/dev/null; then
    "$python" tests/golden/optimizers.py "$new"
    "$python" tests/golden/nf4.py "$new"
fi
if "$python" -c 'import tensorboard' 2>/dev/null; then "$python" tests/golden/events.py "$new"; fi
"$python" -c 'import sys, torch, transformers, peft
print("python", sys.version.split()[0], "torch", torch.__version__, "transformers", transformers.__version__,
      "peft", peft.__version__)' >"$new/VERSIONS"
rc=0
diff -r -U0 testdata/golden "$new" >"$new.diff" || rc=1
head -n 40 "$new.diff"
echo "$(grep -c '^[-+][^-+]' "$new.diff" || :) lines of text and $(grep -cE '^(Binary|Only)' "$new.diff" || :) whole files" \
    "differ from testdata/golden; all of it in $new.diff"
exit $rc
