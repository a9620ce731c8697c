#!/bin/bash
# check-gpu.sh [-r] [BUILD] - all that is checked on a GPU: make check-gpu, and the same in the folder of make gpu-kit.
#
# In this order, as what comes later needs what is before: operations against the reference in float32 and bf16, rows that
# know nothing of their batch, hostile input, stages and lanes, models; whole programs against the CPU; then the operations
# again under compute-sanitizer; then what they cost (bench_device, if there is one).  The last line counts.
#
#	-r        compile the kernels again with the nvcc of this machine, for this GPU
#	DF_LIST=1 print the programs that are needed, and exit
set -u
root=$(cd "$(dirname "$0")/../.." && pwd)
rebuild=
[ "${1-}" != -r ] || {
	rebuild=1
	shift
}
build=${1:-$root/build}
case $build in
/*) ;;
*) build=$PWD/$build ;;
esac
ops='test_ops test_rows test_hostile test_derivatives test_projections test_stage test_lanes test_numbers'
bf16='test_bf16 test_ops test_rows test_projections'
models=$(cd "$root/tests/unit" 2>/dev/null && grep -l DF_TEST_DEVICE test_*.c | sed 's/\.c$//' | tr '\n' ' ')
[ -n "$models" ] || models=$(cd "$build/tests" && for t in test_*; do case " $ops $bf16 " in *" $t "*) ;; *) echo "$t" ;; esac; done)
if [ -n "${DF_LIST-}" ]; then
	for t in $ops $bf16 $models; do
		echo "tests/$t"
	done | sort -u
	exit 0
fi

if [ -n "$rebuild" ]; then
	arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
	[ "$arch" != 90 ] || arch=90a
	make -C "$root" BUILD="$build" GPU_ARCHS="$arch" DEV= "$build/df-cuda.so" || exit 1
fi
export HDF5_PLUGIN_PATH=$build PATH=$build/bin:$PATH
"$build/bin/df-train" --version | grep -oE 'cuda \(.*' || exit 1
if ! "$build/bin/df-train" --version | grep -q 'cuda (sm_'; then
	echo 'check-gpu: no GPU here' >&2
	exit 1
fi
! command -v nvidia-smi >/dev/null || nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm --format=csv,noheader

prefix()
{
	for t in $2; do
		[ ! -x "$build/tests/$t" ] || printf '%s ' "$1:$build/tests/$t"
	done
}
log=$build/check-gpu.log
# shellcheck disable=SC2046 # names of tests are words
DF_GPU=1 DF_TEST_TIMEOUT=${DF_TEST_TIMEOUT:-600} "$root/tests/run.sh" -j "${JOBS:-2}" -b "$build" \
	$(prefix cuda "$ops") $(prefix cuda.bf16 "$bf16") $(prefix cuda "$models") $(prefix cuda.bf16 "$models") \
	cuda:tests/cmd/emu.t | tee "$log"
status=${PIPESTATUS[0]}

if command -v compute-sanitizer >/dev/null 2>&1; then
	for tool in memcheck racecheck initcheck; do
		DF_TEST_DEVICE=cuda CMOCKA_MESSAGE_OUTPUT=TAP timeout "${SANITIZER_TIME:-180}" compute-sanitizer --tool $tool \
			--error-exitcode 9 "$build/tests/test_ops" >"$build/check-gpu.$tool" 2>&1
		case $? in
		0) echo "ok      $tool" ;;
		124) echo "ok      $tool, as far as it came in its time" ;;
		*)
			echo "FAILED  $tool"
			grep -m 20 '=====' "$build/check-gpu.$tool"
			status=1
			;;
		esac
	done
else
	echo 'skipped compute-sanitizer: not here'
fi
[ ! -x "$build/bench/bench_device" ] || DEVICE=cuda "$build/bench/bench_device" 2>&1 | tee "$build/check-gpu.bench"
tail -n 1 "$log"
exit "$status"
