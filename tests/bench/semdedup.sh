#!/bin/bash
# The whole of df-score semdedup against the bare product of all pairs (bench_pairs): user time, one thread, in turn.
#
#   PATH=build/bin:$PATH tests/bench/semdedup.sh [N [D]]       100000 384
#
# Goal: ratio <= 1.25.
n=${1:-100000}
d=${2:-384}
build=${DF_BUILD:-build}
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
TIMEFORMAT=%U
"$build/bench/bench_pairs" "$n" "$d" groups "$dir/emb.h5" || exit 1
product=$("$build/bench/bench_pairs" "$n" "$d" | awk '/^random/ { sub(/.*bare product */, ""); print $1; exit }')
seconds()
{
	{ time df-score -q -j 1 semdedup --train "$dir/emb.h5" "$@" -o "$dir/index.h5"; } 2>&1
}
for round in 1 2 3; do
	all=$(seconds --eps 0.05)
	clusters=$(seconds --eps 0.05 --clusters $((n / 1000)) --max-iter 10)
	awk -v n="$n" -v d="$d" -v p="$product" -v a="$all" -v c="$clusters" -v r="$round" 'BEGIN {
		printf "%d: N %d, D %d: all pairs %.2f s, %d clusters %.2f s, bare product %.1f s, ratio %.3f\n",
			r, n, d, a, n / 1000, c, p, a / p }'
done
