#!/bin/bash
# run.sh - run test programs and count every case.
#
#   tests/run.sh [-j N] [-b BUILD] [DEVICE[.TYPE]:]TEST ...
#
# TEST is a cmocka program or a shell script, both speaking TAP.  DEVICE goes
# into DF_TEST_DEVICE, the type of activations into DF_TEST_COMPUTE.  Of a test that fails everything is shown but its
# passed cases; one that crashes, runs past its time, or runs no case has failed.  The last line is
# `N passed, N failed, N skipped`; the status is 0 only without failures.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
limit=${DF_TEST_TIMEOUT:-300} # seconds for one test

# Run one test; leave NAME.log, NAME.status and NAME.secs.
run_one()
{
	local spec=$1 device='' type path name
	path=$spec
	case $spec in
	cpu:* | openblas:* | poison:* | poison.bf16:* | reference.bf16:* | cuda:* | cuda.bf16:* | emu:* | emu.bf16:*)
		device=${spec%%:*}
		path=${spec#*:}
		;;
	esac
	name=$(basename "$path")${device:+@$device}
	local log=$DF_RUN_OUT/$name.log start=$EPOCHREALTIME end
	type=${device#"${device%.*}"}
	[ -z "$device" ] || export DF_TEST_DEVICE=${device%.*}
	[ -z "$type" ] || export DF_TEST_COMPUTE=${type#.}
	# The kernels of the CUDA backend, on the CPU.  Other tests do not see a GPU: auto is theirs as everywhere.
	case $device in
	emu*) export DF_TEST_DEVICE=cuda DF_CUDA_PLUGIN=$DF_BUILD/df-cuda-emu.so ;;
	cuda*) ;;
	*) export CUDA_VISIBLE_DEVICES='' ;;
	esac
	# Tests are small: without this few of their products would be OpenBLAS's.
	[ "$device" != openblas ] || export DF_OPENBLAS_ALL=1
	case $path in
	/*) ;;
	*) path=$root/$path ;;
	esac
	(cd "$root" && exec timeout -k 10 "$limit" "$path") </dev/null >"$log" 2>&1
	echo $? >"$DF_RUN_OUT/$name.status"
	end=$EPOCHREALTIME
	awk -v a="$start" -v b="$end" 'BEGIN { printf "%.1f\n", b - a }' >"$DF_RUN_OUT/$name.secs"
	judge "$name"
}

# Turn a log into NAME.count (passed failed skipped) and say how it went.
judge()
{
	local name=$1 status secs
	status=$(cat "$DF_RUN_OUT/$name.status")
	secs=$(cat "$DF_RUN_OUT/$name.secs")
	awk -v name="$name" -v status="$status" -v secs="$secs" -v limit="$limit" -v out="$DF_RUN_OUT/$name" '
	function skip(why) { skipped++; reasons = reasons "    skipped: " why "\n" }
	/^# skip: / { why = substr($0, 9) }
	/^1\.\.[0-9]+/ { planned = substr($1, 4) + 0; have_plan = 1 }
	/^1\.\.0 # SKIP/ { sub(/^1\.\.0 # SKIP */, ""); skip($0); next }
	# cmocka writes "not ok 2 # SKIP name" and knows no reasons; ours comes in a line before.
	/^(not )?ok [0-9]+.*# SKIP/ {
		ran++
		label = $0
		sub(/^(not )?ok [0-9]+ *(- *)?/, "", label)
		sub(/# SKIP */, "", label)
		skip(label (why != "" ? ": " why : ""))
		why = ""
		next
	}
	/^ok [0-9]+/ { ran++; passed++ }
	/^not ok [0-9]+/ { ran++; failed++ }
	END {
		if (ran == 0 && skipped == 0) trouble = "ran no case"
		else if (!have_plan) trouble = "ended before its plan"
		else if (ran != planned) trouble = "planned " planned " cases, ran " ran
		if (status == 124 || status == 137) trouble = "ran longer than " limit " s"
		else if (status > 128) trouble = "killed by signal " status - 128
		else if (status != 0 && failed == 0) trouble = "exit status " status
		if (trouble != "") failed++
		printf "%d %d %d\n", passed, failed, skipped > (out ".count")
		printf "%-8s%-34s %4d cases %6.1f s%s\n", failed ? "FAILED" : "ok", name, ran, secs,
		    trouble == "" ? "" : "  (" trouble ")"
		printf "%s", reasons
	}' "$DF_RUN_OUT/$name.log" >"$DF_RUN_OUT/$name.verdict"
	# One write, so that the lines of tests that end together do not mix.
	if grep -q '^FAILED' "$DF_RUN_OUT/$name.verdict"; then
		printf '%s\n' "$(cat "$DF_RUN_OUT/$name.verdict"; sed -E '/^ok [0-9]+/d; s/^/    | /' "$DF_RUN_OUT/$name.log")"
	else
		cat "$DF_RUN_OUT/$name.verdict"
	fi
}

if [ "${1-}" = --one ]; then
	run_one "$2"
	exit 0
fi

jobs=2
build=build
while getopts j:b: opt; do
	case $opt in
	j) jobs=$OPTARG ;;
	b) build=$OPTARG ;;
	*) exit 64 ;;
	esac
done
shift $((OPTIND - 1))

case $build in
/*) ;;
*) build=$root/$build ;;
esac
export DF_SRCDIR=$root DF_BUILD=$build DF_RUN_OUT=$build/test-out
# No slot of a backend may be empty without a word; tests of the host version say so.
export DF_BACKEND_STRICT=${DF_BACKEND_STRICT-1}
export CMOCKA_MESSAGE_OUTPUT=TAP HDF5_PLUGIN_PATH=$build PATH=$build/bin:$PATH LC_ALL=C.UTF-8
rm -rf "$DF_RUN_OUT"
mkdir -p "$DF_RUN_OUT"

[ $# -gt 0 ] || {
	echo "run.sh: no tests" >&2
	exit 64
}
printf '%s\0' "$@" | xargs -0 -n 1 -P "$jobs" "$0" --one

cat "$DF_RUN_OUT"/*.count | awk -v tests=$# '
	{ n++; p += $1; f += $2; s += $3 }
	END {
		if (n != tests) { print "run.sh: " tests - n " tests left no result"; f += tests - n }
		printf "%d passed, %d failed, %d skipped\n", p, f, s
		exit f > 0
	}'
