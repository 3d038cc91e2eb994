#!/usr/bin/env bash
# Runs the README's first command and checks what comes out: every event once, as it came, in order.
set -euo pipefail
cd "$(dirname "$0")/.."
trace=tests/data/nats-retry-redelivery-25k.ndjson.gz

command=$(grep -m 1 '^cargo run .* dedup ' README.md)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
eval "$command --max-retry 60s --max-network 5s --summary $scratch/summary.json" >"$scratch/fresh"

# The first delivery of each key, found without the library: one in awk's memory for each.
gzip -dc "$trace" | awk -F'"' '!seen[$4]++' >"$scratch/expected"
cmp "$scratch/fresh" "$scratch/expected"
grep -Eq '"too_old": *0\b' "$scratch/summary.json"
grep -Eq '"fresh": *23958\b' "$scratch/summary.json"
echo "$(wc -l <"$scratch/fresh") events, each once"
