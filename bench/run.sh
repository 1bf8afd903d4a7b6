#!/usr/bin/env bash
# Builds the benchmark and runs compare with the given arguments, for example
#   bench/run.sh -rows flat,codec -clients troupe,franz
#   bench/run.sh -report docs/            every row, then docs/benchmarks.md
#   bench/run.sh -real -report docs/      the same on Apache Kafka
# ROUNDS=n sets the number of rounds. BENCH_TAGS= builds the drivers without Troupe.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
tags=${BENCH_TAGS-troupe}
commit=$(git -C "$here" rev-parse --short HEAD 2>/dev/null || echo unknown)
# The report itself may have changed since, and code that nothing here is built from.
if ! git -C "$here/.." diff --quiet HEAD -- '*.go' '**/go.mod' 2>/dev/null; then commit+=" with changes"; fi
go build -C "$here" -tags "$tags" -o "$bin/" ./nullbroker ./driver ./compare
go build -C "$here" -tags "$tags,peers" -o "$bin/driver-peers" ./driver
out=(-json "$here/results.json")
for argument in "$@"; do
	case $argument in -report | -report=* | --report | --report=* | -json | -json=* | --json | --json=*) out=() ;; esac
done
"$bin/compare" -rounds "${ROUNDS:-5}" -commit "$commit" "${out[@]}" "$@"
