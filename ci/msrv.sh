#!/usr/bin/env bash
# Checks the stated minimum Rust version as far as one toolchain can: no dependency of library or
# command may need a later one. Clippy's `incompatible_msrv`, which Cargo.toml turns on, checks the
# use of the standard library.
set -euo pipefail
cd "$(dirname "$0")/.."

stated=$(sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' Cargo.toml)
used=$(cargo tree --package oncewheel --package oncewheel-cli --edges normal --all-features --prefix none --format '{p}' | sort -u)

# One line for each package that states a version: "name vVERSION rust-version".
cargo metadata --format-version 1 --all-features | sed 's/{"name":"/\n&/g' | awk -F'"' '
    $6 == "version" { package = $4 " v" $8 }
    match($0, /"rust_version":"[0-9.]+"/) { print package, substr($0, RSTART + 16, RLENGTH - 17) }
' | while read -r name version required; do
    if grep -q "^$name $version" <<<"$used" &&
        [ "$(printf '%s\n%s\n' "$required" "$stated" | sort -V | tail -n 1)" != "$stated" ]; then
        echo "$name $version needs Rust $required; Cargo.toml promises $stated" >&2
        exit 1
    fi
done
echo "no dependency needs more than Rust $stated"
