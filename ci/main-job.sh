#!/usr/bin/env bash
# Runs the README's first command and checks its output: every event once, unchanged and in order.
# The expected output is found without the library, by an awk array of all keys.
set -euo pipefail
cd "$(dirname "$0")/.."
trace=tests/data/nats-retry-redelivery-25k.ndjson.gz

command=$(grep -m 1 '^cargo run .* dedup ' README.md)
eval "$command --max-retry 60s --max-network 5s" | cmp - <(gzip -dc "$trace" | awk -F'"' '!seen[$4]++')
