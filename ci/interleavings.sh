#!/usr/bin/env bash
# Runs threads that meet in many orders that a scheduler chooses: ONCEWHEEL_SCHEDULES orders of each
# scenario, 10,000 unless set. src/testing/interleavings/mod.rs shows how to replay a failure.
# Builds into a target directory of its own, because the flag would rebuild everything else.
set -euo pipefail
cd "$(dirname "$0")/.."

export RUSTFLAGS="--cfg shuttle -D warnings"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/shuttle"
export CARGO_PROFILE_DEV_DEBUG=false # half the time to build
cargo test --lib interleavings
