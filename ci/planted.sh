#!/usr/bin/env bash
# Plants each bug of tests/planted in a copy of the tree, and shows that a check fails with it.
# Above the change, each patch names the promise that it breaks and the command that must see it.
#   ci/planted.sh             all of them: some minutes
#   ci/planted.sh 03 07       those whose names begin so
#   ci/planted.sh --applies   only whether each of them applies
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" = --applies ]; then
    for patch in tests/planted/*.patch; do git apply --check "$patch"; done
    exit
fi

patches=()
for name in "${@:-}"; do patches+=(tests/planted/"$name"*.patch); done
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git ls-files -z --cached --others --exclude-standard | tar --create --null --files-from=- | tar --extract --directory "$copy"
cd "$copy"
# Nothing of this is kept, so debug information and seeds of failures are not needed.
export CARGO_TARGET_DIR=$copy/target CARGO_INCREMENTAL=1 CARGO_PROFILE_DEV_DEBUG=0 PROPTEST_FAILURE_PERSISTENCE=off

# Runs the check of a patch, with its output in the file `output`. Sets $outcome to "passed",
# "failed" (a test did) or "broken" (no test was run to its end).
run_check() {
    local check status=0
    check=$(sed -n 's/^Check: //p' "$1")
    # shellcheck disable=SC2086 # words of a command
    timeout 600 env $check >output 2>&1 || status=$?
    outcome=broken
    [ "$status" != 0 ] || ! grep -Eq '^test result: ok\. [1-9]' output || outcome=passed
    [ "$status" = 0 ] || ! grep -Eq '^test result: FAILED' output || outcome=failed
}

# A check that also fails without the bug, or that runs no test, shows nothing.
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
