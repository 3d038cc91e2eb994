#!/usr/bin/env bash
# Threads that meet in every order that a scheduler comes upon (src/interleavings/mod.rs, which says how a failure is
# replayed): ONCEWHEEL_SCHEDULES orders of each scenario, 10,000 unless set. In a target directory of its own, as the
# flag would have everything else built again.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="--cfg shuttle -D warnings"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/shuttle"
export CARGO_PROFILE_DEV_DEBUG=false # half the time to build
cargo test --lib interleavings
