#!/usr/bin/env bash
# Plants each bug of tests/planted in a copy of the tree and shows that the check named in it fails. A patch says, above the
# change, which promise it breaks and the arguments of the `cargo test` that must see it (variables after them).
#   ci/planted.sh             all of them: some minutes
#   ci/planted.sh 03 07       those whose names begin so
#   ci/planted.sh --applies   only whether each still applies
set -euo pipefail
cd "$(dirname "$0")/.."
patches=(tests/planted/*.patch)

if [ "${1:-}" = --applies ]; then
    for patch in "${patches[@]}"; do
        git apply --check "$patch" || { echo "$patch no longer applies: plant its bug anew" >&2; exit 1; }
    done
    echo "${#patches[@]} planted bugs apply"
    exit
fi

if [ $# -gt 0 ]; then
    patches=()
    for name in "$@"; do patches+=(tests/planted/"$name"*.patch); done
fi
patches=("${patches[@]/#/$PWD/}")
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- | tar --extract --directory "$copy"
cd "$copy"
# Nothing of this is kept, so nothing is spent on what only people or later builds need.
export CARGO_TARGET_DIR=$copy/target CARGO_INCREMENTAL=1 CARGO_PROFILE_DEV_DEBUG=0 PROPTEST_FAILURE_PERSISTENCE=off

# Leaves "passed", "failed" (some test did) or "broken" (nothing was run) in $outcome; the output in $copy/output.
run_check() {
    local patch=$1 line arguments=() variables=()
    line=$(sed -n 's/^Check: //p' "$patch")
    for word in $line; do
        case $word in
        *=*) variables+=("$word") ;;
        *) arguments+=("$word") ;;
        esac
    done
    if env "${variables[@]}" timeout 600 cargo test --quiet "${arguments[@]}" >output 2>&1; then
        outcome=passed
        grep -Eq '^test result: ok\. [1-9]' output || outcome=broken
    elif grep -Eq '^test result: FAILED' output; then
        outcome=failed
    else
        outcome=broken
    fi
}

# A check that fails in any case, or that matches no test, shows nothing.
for patch in "${patches[@]}"; do
    run_check "$patch"
    [ "$outcome" = passed ] || { cat output; echo "without its bug: the check of ${patch##*/} has $outcome" >&2; exit 1; }
done
seen=0
for patch in "${patches[@]}"; do
    git apply "$patch"
    run_check "$patch"
    git apply --reverse "$patch"
    case $outcome in
    failed) seen=$((seen + 1)) && echo "seen: ${patch##*/}: $(grep -Em 1 '^    [a-z_]+(::[a-z0-9_]+)+$' output | tr -d ' ')" ;;
    passed) echo "NOT SEEN: ${patch##*/}" >&2 ;;
    broken) tail -n 20 output && echo "NOT RUN: ${patch##*/}" >&2 ;;
    esac
done
echo "$seen of ${#patches[@]} planted bugs were seen"
[ "$seen" = "${#patches[@]}" ]
