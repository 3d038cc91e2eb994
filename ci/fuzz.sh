#!/usr/bin/env bash
# Runs each fuzz target for a number of seconds (10) from the kept corpus. New inputs go to
# fuzz/found, failing ones to fuzz/artifacts/<target>. Builds cargo-fuzz if there is none.
#   ci/fuzz.sh 60              a minute each
#   ci/fuzz.sh 60 wheel pool   of these
#   ci/fuzz.sh keep            makes the corpora again, as small as possible, from all inputs found
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-10}
shift || true
targets=("$@")
[ $# -gt 0 ] || targets=(wheel index pool unsync lines journal_decode journal_open)

. ci/tool.sh
tool cargo-fuzz 0.13.2

# Sanitizer and coverage need unstable flags. This lets the stable compiler accept them.
export RUSTC_BOOTSTRAP=1
export RUSTFLAGS="--cfg oncewheel_fuzzing" # what the targets call; cargo-fuzz adds flags of its own

for target in "${targets[@]}"; do
    found=fuzz/found/$target kept=fuzz/corpus/$target
    mkdir -p "$found" "$kept"
    if [ "$seconds" = keep ]; then
        smallest=$(mktemp -d)
        cargo fuzz run "$target" "$smallest" "$found" "$kept" -- -merge=1 -max_len=1024 2>/dev/null
        rm -rf "$kept" && mkdir "$kept"
        # A merge keeps a file for each path through the code. Of more than 200, keeps 200 of all
        # sizes.
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
