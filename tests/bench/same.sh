#!/bin/sh
# same.sh - do two builds make the same numbers?
#
#   tests/bench/same.sh OLD NEW        OLD, NEW: build directories (with bin/ and demo/generate)
#   DATA=dir tests/bench/same.sh ...   the loop on real text too (realdata.sh)
#
# Runs the demonstration (one seed) with each build, and compares what they made: every artefact by its df_id, which is
# a digest of its content, and every file of weights byte for byte.  Prints what differs, then how many were compared;
# the status is 1 when something differs.
set -eu
[ $# -eq 2 ] || { sed -n 's/^#   //p' "$0" >&2; exit 64; }
here=$(cd "$(dirname "$0")/../.." && pwd)
old=$(cd "$1" && pwd)
new=$(cd "$2" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

run()
{
	(
		PATH=$1/bin:$1/demo:$PATH
		export PATH
		SEEDS=1 DEMO_OUT=$2/demo "$here/demo/demo.sh"
		[ -z "${DATA-}" ] || { mkdir "$2/real" && OUT=$2/real WARMUPS=25 "$here/tests/bench/realdata.sh"; }
	) >"$2.log" 2>&1 || { cat "$2.log" >&2; exit 1; }
}

# NAME ID, of every artefact and of every file of weights.
ids()
{
	cd "$1"
	find . -name '*.h5' | sort | while read -r file; do
		echo "$file $(h5dump -a df_id "$file" | sed -n 's/.*(0): "\(.*\)"/\1/p')"
	done
	find . -name '*.safetensors' | sort | while read -r file; do
		echo "$file $(cksum <"$file")"
	done
}

for side in old new; do
	mkdir "$work/$side"
	if [ $side = old ]; then build=$old; else build=$new; fi
	run "$build" "$work/$side"
	(ids "$work/$side") >"$work/$side.ids"
done
n=$(wc -l <"$work/old.ids")
if diff "$work/old.ids" "$work/new.ids"; then
	echo "$n artefacts and files of weights: all the same"
else
	echo "of $n artefacts and files of weights, those above differ"
	exit 1
fi
