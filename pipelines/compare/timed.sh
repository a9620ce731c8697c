#!/bin/sh
# timed.sh FILE COMMAND... - run the command that makes FILE, and note its seconds in FILE.seconds.
set -eu
file=$1
shift
t0=$(date +%s%N)
"$@"
t1=$(date +%s%N)
echo "$t0 $t1" | awk '{ printf "%.3f\n", ($2 - $1) / 1e9 }' >"$file.seconds"
