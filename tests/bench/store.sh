#!/bin/bash
# store.sh - df-score less at the speed of the store: against the floor, and against h5py + numpy on the same cores.
#
#   store.sh [-n ROUNDS] [-r ROWS] [-k WIDTH] [-j THREADS] [-t f16]      (with build/bin and build/bench in the PATH)
#
# The goal for 1,000,000 x 8,192 float16 is the speed of the store with at most 1 GiB resident; 16 GB of disk:
# store.sh -r 1000000 -k 8192 -t f16.  -t f16 makes the file as h5py would: contiguous.
#
# PYTHON is one with h5py and numpy, without which there is no peer.  OLD may name a df-score of another build, to be
# measured too.  OUT keeps the files.  In each round everything runs once, so that a machine that changes its speed changes it for all.  Files are in the page cache.
#
#   floor   cat FILE >/dev/null, then one pass of THREADS threads that read the file and sum it up (read_floor)
#   ours    the whole command df-score less, 4 subtasks
#
# "cpu" is user and system time: what counts while other jobs share the cores.
set -eu

rounds=5
rows=200000
width=2048
threads=2
type=float32
while getopts n:r:k:j:t: opt; do
	case $opt in
	n) rounds=$OPTARG ;;
	r) rows=$OPTARG ;;
	k) width=$OPTARG ;;
	j) threads=$OPTARG ;;
	t) type=$OPTARG ;;
	*) exit 64 ;;
	esac
done
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
work=${OUT:-$(mktemp -d)}
[ -n "${OUT:-}" ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work"
train=$work/train.h5 val=$work/val.h5
maker=random_rows
[ "$type" = float32 ] || maker=random_half
[ -e "$train" ] || $maker "$rows" "$width" "$train"
[ -e "$val" ] || $maker 400 "$width" "$val"

# Wall and cpu seconds of a command, as "NAME WALL CPU".
TIMEFORMAT='%R %U %S'
measure() { # name, command...
	local name=$1 times
	shift
	times=$({ time "$@" >/dev/null 2>"$work/log"; } 2>&1) || { cat "$work/log" >&2; exit 1; }
	echo "$times" | awk -v name="$name" '{ print name, $1, $2 + $3 }'
}

have_peer=
if "$python" -c 'import h5py, numpy' 2>/dev/null; then have_peer=yes; fi
one_round() {
	measure cat cat "$train"
	measure sum read_floor "$threads" "$train"
	measure ours df-score -q -j "$threads" less --train "$train" --val "$val" -n 1000 -o "$work/ours.h5"
	[ -z "${OLD:-}" ] || measure old "$OLD" -q -j "$threads" less --train "$train" --val "$val" -n 1000 -o "$work/old.h5"
	[ -z "$have_peer" ] || OMP_NUM_THREADS=$threads OPENBLAS_NUM_THREADS=$threads \
		"$python" "$here/less_numpy.py" "$train" "$val" 1000 | awk '{ print "peer", $2, 0 }'
}

cat "$train" >/dev/null
printf '%s rows x %s %s (%s bytes), %s threads, %s rounds\n' "$rows" "$width" "$type" "$(stat -Lc %s "$train")" "$threads" "$rounds"
i=0
while [ $i -lt "$rounds" ]; do
	one_round
	echo end 0 0
	i=$((i + 1))
done | awk '
	function median(v, n,    i, j, t) {
		for (i = 2; i <= n; i++)
			for (j = i; j > 1 && v[j - 1] > v[j]; j--) { t = v[j]; v[j] = v[j - 1]; v[j - 1] = t }
		return n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
	}
	function ratio(name, v, n) { if (n) { m = median(v, n); printf "%-28s %.2f  [%.2f .. %.2f]\n", name, m, v[1], v[n] } }
	{ wall[$1] = $2; cpu[$1] = $3 }
	$1 == "peer" { peer[++np] = wall["peer"] / wall["ours"]; pw[np] = wall["peer"] }
	$1 == "old" { old[++no] = wall["old"] / wall["ours"]; oldcpu[no] = cpu["old"] / cpu["ours"] }
	$1 == "end" {
		n++
		over[n] = wall["ours"] / (wall["cat"] + wall["sum"])
		overcpu[n] = cpu["ours"] / (cpu["cat"] + cpu["sum"])
		ow[n] = wall["ours"]; oc[n] = cpu["ours"]
		fw[n] = wall["cat"] + wall["sum"]; fc[n] = cpu["cat"] + cpu["sum"]
	}
	END {
		printf "floor  %.3f s, cpu %.3f s\nours   %.3f s, cpu %.3f s\n", median(fw, n), median(fc, n), median(ow, n), median(oc, n)
		if (np) printf "peer   %.3f s\n", median(pw, np)
		ratio("ours / floor, wall", over, n)
		ratio("ours / floor, cpu", overcpu, n)
		ratio("peer / ours, wall", peer, np)
		ratio("old / ours, wall", old, no)
		ratio("old / ours, cpu", oldcpu, no)
	}'
if [ -x /usr/bin/time ]; then
	/usr/bin/time -f 'peak resident %M KiB' df-score -q -j "$threads" less --train "$train" --val "$val" -n 1000 -o "$work/ours.h5"
fi
[ -z "${OLD:-}" ] || cmp "$work/ours.h5" "$work/old.h5"
