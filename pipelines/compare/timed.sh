#!/bin/sh
# timed.sh FILE COMMAND... - run the command that makes FILE, and note its seconds of processor time in FILE.seconds.
# With -j 1 that is the wall time of a quiet machine, and it hardly depends on what else runs.
set -eu
file=$1
shift
"$@"
times >"$file.times" # no pipe: in a subshell they would be zero.  The second line is that of the commands.
awk -F '[ms ]+' 'NR == 2 { printf "%.3f\n", $1 * 60 + $2 + $3 * 60 + $4 }' "$file.times" >"$file.seconds"
rm "$file.times"
