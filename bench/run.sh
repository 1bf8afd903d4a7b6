#!/usr/bin/env bash
# Builds the benchmark and runs compare with the given arguments, for example
#   bench/run.sh -rows flat,codec -clients troupe,franz
# ROUNDS=n sets the number of rounds. BENCH_TAGS= builds the driver without Troupe.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -C "$here" -tags "${BENCH_TAGS-troupe}" -o "$bin/" ./nullbroker ./driver ./compare
"$bin/compare" -rounds "${ROUNDS:-5}" -json "$here/results.json" "$@"
