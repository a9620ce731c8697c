#!/bin/bash
# run.sh SECONDS BUILD TARGET... - libFuzzer on each target, from its seeds.  The seeds stay as they are; what the
# search adds lies in BUILD/corpus/TARGET, inputs that crash in BUILD/crash-TARGET-*.
set -u
seconds=$1 build=$2
shift 2
here=$(cd "$(dirname "$0")" && pwd)
export DF_SRCDIR=${here%/tests/fuzz} ASAN_OPTIONS=allocator_may_return_null=1:detect_leaks=1
export LSAN_OPTIONS=print_suppressions=0:suppressions=$DF_SRCDIR/tests/lsan.supp
passed=0 failed=0
for t in "$@"; do
	mkdir -p "$build/corpus/$t"
	# HDF5 keeps some memory after each input, so libFuzzer would look for leaks each time, at a hundredth of the speed
	# (make check-san looks for them once a seed); and it asks for what a file says, which may fail.
	case $t in
	artefact | stream | shards) more='-detect_leaks=0 -malloc_limit_mb=1048576' ;;
	*) more= ;;
	esac
	# shellcheck disable=SC2086 # options are words
	if "$build/fuzz/$t" -max_total_time="$seconds" -max_len=65536 -timeout=10 -rss_limit_mb=4096 $more \
	    -close_fd_mask=1 -print_final_stats=1 -artifact_prefix="$build/crash-$t-" "$build/corpus/$t" "$here/corpus/$t" \
	    >"$build/$t.log" 2>&1; then
		passed=$((passed + 1))
		printf 'ok      %-14s %s runs, %s edges\n' "$t" \
		    "$(sed -n 's/^stat::number_of_executed_units: *//p' "$build/$t.log")" \
		    "$(sed -n 's/.* cov: \([0-9]*\).*/\1/p' "$build/$t.log" | tail -n 1)"
	else
		failed=$((failed + 1))
		printf 'FAILED  %s\n' "$t"
		grep -E 'ERROR|SUMMARY|runtime error|^ *#[0-9] .* in |Test unit written' "$build/$t.log" | head -n 25 | sed 's/^/    | /'
	fi
done
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
