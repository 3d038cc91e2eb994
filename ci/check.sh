#!/usr/bin/env bash
# Everything that must hold before a change is merged; run by .ci/run and by people. Needs cargo
# with rustfmt and clippy.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s\n' "$*"; }

step "format"
cargo fmt --all --check

step "clippy, warnings as errors; the plain library too"
cargo clippy --workspace --all-features --all-targets -- -D warnings
cargo clippy --no-default-features -- -D warnings

step "each feature alone"
for feature in registry serde testing chrono jiff time metrics tracing tower; do
    cargo check --quiet --no-default-features --features "$feature"
done

step "the minimum Rust version"
ci/msrv.sh

step "tests: the README's command"
cargo test --workspace --all-features

step "tests compiled as released: optimised, without overflow checks"
cargo test --workspace --release --all-features --test it

step "the engine and the model without vector instructions"
RUSTFLAGS="--cfg oncewheel_portable" cargo test --target-dir "${CARGO_TARGET_DIR:-target}/portable" \
    --lib --test it -- engine:: testing:: model::

step "planted bugs apply"
ci/planted.sh --applies

step "fuzzing: half a minute for each target"
ci/fuzz.sh 30

step "a soak of ten seconds"
cargo run --quiet --release --package oncewheel-soak -- --seconds 10

step "interleavings: 10,000 schedules of each scenario"
ci/interleavings.sh

step "documentation without warnings"
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features

step "examples"
for example in examples/*.rs; do
    cargo run --quiet --all-features --example "$(basename "$example" .rs)" >/dev/null
done

step "the main job: the README's command"
ci/main-job.sh

step "the published packages hold only what users need"
for package in oncewheel oncewheel-cli; do
    held=$(cargo package --list --allow-dirty --package "$package")
    if grep -Ev '^(Cargo\.(toml|toml\.orig|lock)|\.cargo_vcs_info\.json|(README|CHANGELOG)\.md|LICENSE-[A-Z]+|(src|examples)/.*)$' <<<"$held" >&2; then
        echo "these are in the package $package too" >&2
        exit 1
    fi
done

step "benchmarks run (not timed)"
cargo bench --bench oncewheel -- --test 'steady_1m/oncewheel'

step "all is well"
