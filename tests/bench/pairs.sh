#!/bin/sh
# pairs.sh - the ratio of two commands' wall times, A/B, measured in pairs.
#
#   pairs.sh [-n PAIRS] [-p CPU] NAME 'COMMAND A' 'COMMAND B'
#
# Runs A B A B ... (after one warm-up of each) and prints one line: the median
# of the pairs' ratios with its minimum and maximum, and each side's median
# seconds.  A pair's two runs follow each other, so a machine that changes its
# speed between pairs changes neither the ratio nor the verdict.
# -p pins both to one processor.
set -eu

pairs=9
pin=
while getopts n:p: opt; do
	case $opt in
	n) pairs=$OPTARG ;;
	p) pin="taskset -c $OPTARG" ;;
	*) exit 64 ;;
	esac
done
shift $((OPTIND - 1))
[ $# -eq 3 ] || { sed -n 's/^#   //p' "$0" >&2; exit 64; }

# Seconds that a shell command takes; its words are kept for when it fails.
log=$(mktemp)
trap 'rm -f "$log"' EXIT
seconds() {
	t0=$(date +%s%N)
	$pin sh -c "$1" >"$log" 2>&1 || { echo "pairs.sh: failed: $1" >&2; cat "$log" >&2; exit 1; }
	t1=$(date +%s%N)
	echo "$t0 $t1" | awk '{ printf "%.6f\n", ($2 - $1) / 1e9 }'
}

seconds "$2" >/dev/null
seconds "$3" >/dev/null
i=0
while [ $i -lt "$pairs" ]; do
	a=$(seconds "$2")
	b=$(seconds "$3")
	echo "$a $b"
	i=$((i + 1))
done | awk -v name="$1" '
	function median(v, n,    i, j, t) {
		for (i = 2; i <= n; i++)
			for (j = i; j > 1 && v[j - 1] > v[j]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
		return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
	}
	{ a[NR] = $1; b[NR] = $2; r[NR] = $1 / $2 }
	END {
		m = median(r, NR)
		printf "%-34s ratio %.3f  [%.3f .. %.3f]  A %.3f s  B %.3f s  (%d pairs)\n", name, m, r[1], r[NR], median(a, NR), median(b, NR), NR
	}'
