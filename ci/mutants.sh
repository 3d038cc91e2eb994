#!/usr/bin/env bash
# Changes wheel, index, watermark, claims and journal, one expression at a time, and shows which changes no test sees. Some
# hour and a half on two cores. .cargo/mutants.toml says which changes it leaves out, and why.
#   ci/mutants.sh                         all
#   ci/mutants.sh src/engine/wheel.rs     of these files
# What is found lies in target/mutants/mutants.out; mutants that were caught there are not tried again.
set -euo pipefail
cd "$(dirname "$0")/.."
engine=('src/engine/wheel*' 'src/engine/wheel/*' 'src/engine/index/*' src/engine/claims.rs src/watermark.rs)
journal=('src/journal/*.rs')

# What would be written into the tree, and what takes long and does not tell more here.
export PROPTEST_FAILURE_PERSISTENCE=off ONCEWHEEL_ALTERED=1 ONCEWHEEL_CRASH_LENGTH=2 ONCEWHEEL_KILLS=2
export CARGO_PROFILE_DEV_DEBUG=0
. ci/tool.sh
tool cargo-mutants 27.1.0
mkdir -p target/mutants
# Mutants that no test sees, or that never come to an end, are no failure of the run itself.
mutants() {
    cargo mutants --output target/mutants --iterate --baseline skip --jobs 2 --build-timeout 300 "$@" ||
        { status=$? && [ "$status" -ge 2 ] && [ "$status" -le 3 ]; }
}
quick() { ONCEWHEEL_HOSTILE_KEYS=50000 mutants --timeout 30 --cargo-arg=--lib "$@"; }

# Quick tests first; what those miss again, with all tests.
files=("$@")
if [ $# = 0 ]; then
    quick "${engine[@]/#/--file=}" -- -- engine:: fuzzing::tests::wheel fuzzing::tests::index fuzzing::tests::unsync watermark
    quick "${journal[@]/#/--file=}" -- -- journal:: --skip any_bit_that_flips --skip keys_that_make_room
    files=("${engine[@]}" "${journal[@]}")
fi
mutants "${files[@]/#/--file=}" --timeout 180 --cargo-arg=--lib --cargo-arg=--test=it
[ ! -s target/mutants/mutants.out/missed.txt ]
