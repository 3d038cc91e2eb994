#!/usr/bin/env bash
# Runs each fuzz target for as many seconds as it is told (10) on a copy of the kept corpus. Builds
# cargo-fuzz if there is none. What it finds lies in fuzz/artifacts/<target> then.
#   ci/fuzz.sh 60              a minute each
#   ci/fuzz.sh 60 wheel pool   of these
#   ci/fuzz.sh keep            makes the corpora anew from what runs have found (fuzz/found), as small as they can be
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-10}
shift || true
targets=("$@")
[ $# -gt 0 ] || targets=(wheel index pool unsync lines journal_decode journal_open)

. ci/tool.sh
tool cargo-fuzz 0.13.2

# Sanitizer and coverage need flags that are not stable: this lets the stable compiler take them.
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="--cfg oncewheel_fuzzing" # what the targets call; cargo-fuzz adds flags of its own

for target in "${targets[@]}"; do
    found=fuzz/found/$target kept=fuzz/corpus/$target
    mkdir -p "$found" "$kept"
    if [ "$seconds" = keep ]; then
        smallest=$(mktemp -d)
        cargo fuzz run "$target" "$smallest" "$found" "$kept" -- -merge=1 -max_len=1024 2>/dev/null
        rm -rf "$kept" && mkdir "$kept"
        # A merge keeps a file for each way through the code; of more than 200, small and large ones alike.
        find "$smallest" -type f -size -2k -printf '%s %p\n' | sort -n | cut -d ' ' -f 2 |
            awk '{ file[NR] = $0 } END { step = NR > 200 ? NR / 200 : 1; for (at = 1; at <= NR; at += step) print file[int(at)] }' |
            xargs -I{} cp {} "$kept"
        rm -rf "$smallest"
        echo "$target: $(find "$kept" -type f | wc -l) files"
    else
        log=$(mktemp)
        cargo fuzz run "$target" "$found" "$kept" -- -max_total_time="$seconds" -max_len=1024 -verbosity=0 \
            -print_final_stats=1 >"$log" 2>&1 || { tail -n 30 "$log" >&2; exit 1; }
        echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs in $seconds s"
        rm "$log"
    fi
done
