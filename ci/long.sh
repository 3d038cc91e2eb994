#!/usr/bin/env bash
# What takes too long for every change: some hours, before a release. ci/check.sh runs the same at a
# smaller scale.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step "every crash image of every sequence of five calls"
ONCEWHEEL_CRASH_LENGTH=5 cargo test --release --lib journal::tests::crash -- --nocapture

step "a consumer that is killed 2,000 times"
ONCEWHEEL_KILLS=2000 cargo test --release --all-features --test it kills -- --nocapture

step "planted bugs: a check fails with each"
ci/planted.sh

step "ten million hostile keys"
ONCEWHEEL_HOSTILE_KEYS=10000000 cargo test --release --lib engine::index::work -- --nocapture
ONCEWHEEL_HOSTILE_KEYS=10000000 cargo test --release --test it hostile -- --nocapture

# Doctests and all other code are safe. Because a target is named, build scripts are built without
# the sanitizer. RUSTC_BOOTSTRAP lets the stable compiler accept the flag.
step "the unsafe file under AddressSanitizer"
RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address cargo test --lib --target x86_64-unknown-linux-gnu \
    --target-dir "${CARGO_TARGET_DIR:-target}/asan" -- engine:: testing::

step "an hour of fuzzing in all"
ci/fuzz.sh $((3600 / 7)) # seven targets

step "a soak of an hour"
cargo run --release --package oncewheel-soak -- --seconds 3600

step "interleavings: 1,000,000 schedules of each scenario"
ONCEWHEEL_SCHEDULES=1000000 ci/interleavings.sh

step "a simulated queue: 10^8 deliveries"
cargo run --release --package oncewheel-simulate -- --deliveries 100000000 --seed "${ONCEWHEEL_SEED:-1}"

step "a simulated queue in 200 settings drawn at random"
cargo run --release --package oncewheel-simulate -- --scenario drawn --deliveries 20000000 --per-run 100000 --seed 1000

step "all is well"
