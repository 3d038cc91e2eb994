#!/usr/bin/env bash
# Changes wheel, index, watermark, claims and journal, one expression at a time, and shows which changes no test sees. An hour
# and more on two cores. .cargo/mutants.toml says which changes it leaves out, and why.
#   ci/mutants.sh                         all, from the beginning
#   ci/mutants.sh src/engine/wheel.rs     of these files; those that were seen before are not tried again
# What is found lies in target/mutants/mutants.out.
set -euo pipefail
cd "$(dirname "$0")/.."
engine=('src/engine/wheel*' 'src/engine/wheel/*' 'src/engine/index/*' src/engine/claims.rs src/watermark.rs)
journal=('src/journal/*.rs' src/engine/pending.rs 'src/*/claim.rs' 'src/*/durable.rs')

# What would be written into the tree, and what takes long and does not tell more here.
export PROPTEST_FAILURE_PERSISTENCE=off ONCEWHEEL_ALTERED=1 ONCEWHEEL_CRASH_LENGTH=2 ONCEWHEEL_KILLS=2
export CARGO_PROFILE_DEV_DEBUG=0
. ci/tool.sh
tool cargo-mutants 27.1.0
mkdir -p target/mutants
[ $# -gt 0 ] || rm -rf target/mutants/mutants.out*

# `mutants SECONDS FILES -- TESTS`: the tests that must see the mutants of these files must pass without them, in the time.
mutants() {
    local seconds=$1 files=() tests=() status=0
    shift
    while [ "$1" != -- ]; do files+=("--file=$1") && shift; done
    shift && tests=("$@")
    timeout "$seconds" cargo test --quiet "${packages[@]/#/--package=}" "${targets[@]}" -- "${tests[@]}" >/dev/null
    cargo mutants --output target/mutants --iterate --baseline skip --jobs 2 --build-timeout 300 --timeout "$seconds" \
        "${files[@]}" "${packages[@]/#/--test-package=}" "${targets[@]/#/--cargo-arg=}" -- -- "${tests[@]}" || status=$?
    # Mutants that no test sees (2), or that never come to an end (3), are no failure of the run itself.
    [ "$status" = 0 ] || [ "$status" = 2 ] || [ "$status" = 3 ]
}

# Quick tests first; what those miss again, with all tests, the simulated queue included.
files=("$@")
packages=(oncewheel)
if [ $# = 0 ]; then
    targets=(--lib)
    cargo test --quiet --no-run "${targets[@]}"
    export ONCEWHEEL_HOSTILE_KEYS=50000
    mutants 60 "${engine[@]}" -- engine:: fuzzing::tests::wheel fuzzing::tests::index fuzzing::tests::unsync watermark
    mutants 60 "${journal[@]}" -- journal:: engine::pending --skip any_bit_that_flips --skip make_room_for_others
    unset ONCEWHEEL_HOSTILE_KEYS
    files=("${engine[@]}" "${journal[@]}")
fi
packages+=(oncewheel-simulate) targets=(--lib --test=it)
cargo test --quiet --no-run "${packages[@]/#/--package=}" "${targets[@]}"
mutants 180 "${files[@]}" --
found=target/mutants/mutants.out
echo "not seen: $(wc -l <"$found/missed.txt"); without an end: $(wc -l <"$found/timeout.txt")"
cat "$found/missed.txt" "$found/timeout.txt"
[ ! -s "$found/missed.txt" ]
