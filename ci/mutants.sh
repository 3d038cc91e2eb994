#!/usr/bin/env bash
# Changes the engine, the watermark and the journal, one expression at a time, and shows which
# changes no test sees. Takes more than an hour on two cores. .cargo/mutants.toml lists the changes
# that are left out, and why. The results are in target/mutants/mutants.out.
#   ci/mutants.sh                         all, from the beginning
#   ci/mutants.sh src/engine/wheel.rs     of these files, except those that were seen before
set -euo pipefail
cd "$(dirname "$0")/.."
engine=('src/engine/wheel*' 'src/engine/wheel/*' 'src/engine/index/*' src/engine/claims.rs src/engine/decide.rs
    src/watermark.rs src/sync/batch.rs)
journal=('src/journal/*.rs' src/engine/pending.rs 'src/*sync/claim.rs' 'src/*sync/journal.rs' src/sync/commits.rs src/sync/ownership.rs)

# Nothing is written into the tree, and tests that would only take longer are shortened.
export PROPTEST_FAILURE_PERSISTENCE=off ONCEWHEEL_ALTERED=1 ONCEWHEEL_CRASH_LENGTH=2 ONCEWHEEL_KILLS=2
export CARGO_PROFILE_DEV_DEBUG=0
. ci/tool.sh
tool cargo-mutants 27.1.0
mkdir -p target/mutants
[ $# -gt 0 ] || rm -rf target/mutants/mutants.out*

# `mutants SECONDS FILES -- TESTS`: these tests must see the mutants of these files. Without a
# mutant, they must pass in this time.
mutants() {
    local seconds=$1 files=() tests=() status=0
    shift
    while [ "$1" != -- ]; do files+=("--file=$1") && shift; done
    shift && tests=("$@")
    timeout "$seconds" cargo test --quiet "${packages[@]/#/--package=}" "${targets[@]}" -- "${tests[@]}" >/dev/null
    cargo mutants --output target/mutants --iterate --baseline skip --jobs 2 --build-timeout 300 --timeout "$seconds" \
        "${files[@]}" "${packages[@]/#/--test-package=}" "${targets[@]/#/--cargo-arg=}" -- -- "${tests[@]}" || status=$?
    # Mutants that no test sees (2), or that never end (3), are no failure of the run itself.
    [ "$status" = 0 ] || [ "$status" = 2 ] || [ "$status" = 3 ]
}

# The quick tests first. Then all tests, with the simulated queue, on the mutants that those missed.
files=("$@")
packages=(oncewheel)
if [ $# = 0 ]; then
    targets=(--lib)
    cargo test --quiet --no-run "${targets[@]}"
    export ONCEWHEEL_HOSTILE_KEYS=100000
    mutants 60 "${engine[@]}" -- engine:: fuzzing::tests::wheel fuzzing::tests::index fuzzing::tests::unsync watermark
    mutants 60 "${journal[@]}" -- journal:: engine::pending --skip any_flipped_bit --skip evicting_keys
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
