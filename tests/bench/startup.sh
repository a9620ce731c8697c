#!/bin/bash
# startup.sh - what a command of df-score costs before and after its work: cpu milliseconds of a call on a tiny file.
#
#   startup.sh [-n CALLS]      (with build/bin and build/bench in the PATH)
#
# The goal is 20 ms.  User and system time of CALLS calls in a row, less that of as many calls of true; the smallest of
# five such rows.  What is left is the dynamic loader's for the most part: HDF5 brings 30 libraries.
set -eu
calls=20
while getopts n: opt; do
	case $opt in
	n) calls=$OPTARG ;;
	*) exit 64 ;;
	esac
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
random_rows 1000 8 "$work/train.h5"
random_rows 20 8 "$work/val.h5"

TIMEFORMAT='%U %S'
row() { # command...: cpu milliseconds of a call
	{ time for ((i = 0; i < calls; i++)); do "$@" >/dev/null 2>&1; done; } 2>&1 | awk -v n="$calls" '{ print 1000 * ($1 + $2) / n }'
}
measure() { # name, command...
	local name=$1
	shift
	"$@" >/dev/null 2>&1
	for _ in 1 2 3 4 5; do
		echo "$(row "$@") $(row env true)"
	done | awk -v name="$name" '{ d = $1 - $2 } NR == 1 || d < min { min = d } END { printf "%-10s %5.1f ms\n", name, min }'
}
measure --version df-score --version
measure -h df-score -h
measure --list df-score --list
measure random df-score random --train "$work/train.h5" -n 10 -o "$work/out.h5"
measure less df-score less --train "$work/train.h5" --val "$work/val.h5" -n 10 -o "$work/out.h5"
