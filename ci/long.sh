#!/usr/bin/env bash
# What takes too long for every change: run it before a release. About half an hour; needs a nightly toolchain and
# `cargo install cargo-fuzz` for the fuzzer. ci/check.sh runs the same at a smaller scale.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step "every crash image of every sequence of five calls"
ONCEWHEEL_CRASH_LENGTH=5 cargo test --release --lib journal::tests::crash -- --nocapture

step "a consumer that is killed 2,000 times"
ONCEWHEEL_KILLS=2000 cargo test --release --all-features --test it kills -- --nocapture

step "a simulated queue: 10^8 deliveries"
cargo run --release --example simulate -- --deliveries 100000000 --seed "${ONCEWHEEL_SEED:-1}"

for target in journal_decode journal_open; do
    step "fuzzing: $target"
    cargo +nightly fuzz run "$target" -- -max_total_time=60
done

step "all is well"
