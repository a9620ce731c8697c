#!/bin/bash
# tsds.sh - df-score tsds, exact, against the authors' program (FAISS IVF), end to end: files in, index out.
#
#   TSDS=DIR PYTHON=python3 tests/bench/tsds.sh [small] [medium] [large]     (after: make bench-programs)
#
# DIR is a clone of github.com/ZifanL/TSDS; python needs faiss, numpy and PyYAML.  small: 5,000 candidates, 50 queries;
# medium: 20,000 and 200; large: 100,000 and 1,000.  Without TSDS only ours is measured.  All of 1,024 numbers, in random directions and in clusters; max_K 5000, kde_K 1000 (which the
# original cuts to a tenth of the candidates).  Both may use as many threads as the machine has, or THREADS.  The original
# runs with -O: its own asserts stop it where it gives a query more than its mass, as on the random directions.
# A line for each: seconds of wall and of CPU, peak memory, and the ratio theirs / ours.  small runs 3 times, in turn.
# Then, for small, the largest difference of the probabilities from those of the original's formulas with an exact index
# (tests/golden/tsds_reference.py, which needs scipy).
set -eu

cd "$(dirname "$0")/../.."
src=$PWD
build=${DF_BUILD:-$src/build}
python=${PYTHON:-python3}
threads=${THREADS:-$(nproc)}
work=$(mktemp -d "${TMPDIR:-/tmp}/tsds.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
export OMP_NUM_THREADS="$threads" OPENBLAS_NUM_THREADS="$threads"

# timed NAME COMMAND...: append "wall cpu KiB" to NAME.times
timed()
{
	name=$1
	shift
	/usr/bin/time -f '%e %U %S %M' -o time "$@" >log 2>&1 || { cat log >&2; exit 1; }
	awk '{ print $1, $2 + $3, $4 }' time >>"$name.times"
}

# report: the medians of both, and the ratios
report()
{
	for name in ours ${TSDS:+theirs}; do
		for column in 1 2 3; do
			cut -d' ' -f"$column" "$name.times" | sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
		done | paste -sd' '
	done | paste -sd' ' | awk '{
		printf "  ours    %8.2f s  cpu %8.2f s  %6.0f MiB\n", $1, $2, $3 / 1024
		if (NF < 6)
			exit
		printf "  theirs  %8.2f s  cpu %8.2f s  %6.0f MiB\n", $4, $5, $6 / 1024
		printf "  theirs / ours: wall %.1f, cpu %.1f\n", $4 / $1, $5 / $2
	}'
}

# compare N M CLUSTERS ROUNDS
compare()
{
	rm -f ./*.times
	"$build/bench/random_points" "$1" 1024 "$3" 1 pool.h5 pool.npy
	"$build/bench/random_points" "$2" 1024 "$3" 2 query.h5 query.npy
	cat >config.yaml <<-END
		query_embedding_path: query.npy
		candidate_embedding_path: pool.npy
		output_folder: out
		sample_size: 1000
		alpha: 0.6
		C: 5.0
		sigma: 0.75
		max_K: 5000
		kde_K: 1000
	END
	echo "$1 candidates, $2 queries, $([ "$3" = 0 ] && echo 'random directions' || echo "$3 clusters"), $threads threads"
	for round in $(seq "$4"); do
		timed ours "$build/bin/df-score" -j "$threads" tsds --train pool.h5 --query query.h5 --sampling multinomial \
			-n 1000 -o "index$round.h5"
		[ -z "${TSDS-}" ] || timed theirs "$python" -O "$TSDS/tsds.py"
	done
	report
}

# agree CLUSTERS: with the original's formulas, on what compare left
agree()
{
	"$build/bin/df-score" -q tsds --max-k 500 --kde-k 500 --train pool.h5 --query query.h5 -n 10 -o x.h5 \
		--scores-output scores.h5
	HDF5_PLUGIN_PATH=$build h5dump -y -w 1 -m '%.17g' -d probability scores.h5 | sed -n 's/^ *\([0-9][0-9.e+-]*\),*$/\1/p' >ours.txt
	"$python" "$src/tests/golden/tsds_reference.py" --compare pool.npy query.npy max_K=500 kde_K=500 >theirs.txt
	paste ours.txt theirs.txt | awk '
		{ d = $1 - $2; if (d < 0) d = -d; if (d > most) most = d; sum += $1 }
		END { printf "  largest difference of %d probabilities: %.2g; they sum to %.15g\n", NR, most, sum }'
}

for size in "${@:-small}"; do
	for clusters in 0 50; do
		case $size in
		small)
			compare 5000 50 $clusters 3
			agree
			;;
		medium) compare 20000 200 $clusters 1 ;;
		large) compare 100000 1000 $clusters 1 ;;
		*) echo "tsds.sh: $size is not small, medium or large" >&2 && exit 64 ;;
		esac
	done
done
