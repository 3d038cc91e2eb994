#!/usr/bin/env bash
# What takes too long for every change: run it before a release. About an hour; needs a nightly toolchain and
# `cargo install cargo-fuzz` for the fuzzer. ci/check.sh runs the same at a smaller scale.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step "every crash image of every sequence of five calls"
ONCEWHEEL_CRASH_LENGTH=5 cargo test --release --lib journal::tests::crash -- --nocapture

step "a consumer that is killed 2,000 times"
ONCEWHEEL_KILLS=2000 cargo test --release --all-features --test it kills -- --nocapture

step "interleavings: 1,000,000 schedules of each scenario"
ONCEWHEEL_SCHEDULES=1000000 ci/interleavings.sh

for target in journal_decode journal_open; do
    step "fuzzing: $target"
    cargo +nightly fuzz run "$target" -- -max_total_time=60
done

step "all is well"
