#!/bin/sh
# weigh-data.sh SCENE SEED DIR - the pool of a scene (../compare-weigh.mk), anchors and test, as tokens in DIR.
#
#   pool.h5  to train on       val.h5  the anchors       test.h5  rows to measure on: in no other file
set -eu
scene=$1 seed=$2 dir=$3
rows=$dir/rows
mkdir -p "$rows"
generate "$rows" "$seed"

pack() { # datasets, output
	df-pack -q --dataset-dir "$rows" --dataset "$1" --template default --tokenizer bytes --cutoff-len 128 -o "$dir/$2.h5"
}

case $scene in
noisy)
	pack val val
	pack test test
	pack translate,noise pool
	;;
difficulty) # of each skill every 10th row is measured, and the next one is an anchor
	info=''
	for skill in reverse shout add order continue translate; do
		for part in pool val test; do
			info="$info${info:+, }\"$skill.$part\": {\"file_name\": \"$skill.$part.jsonl\"}"
		done
		awk -v name="$rows/$skill" '{ print >(name (NR % 10 == 0 ? ".test" : NR % 10 == 1 ? ".val" : ".pool") ".jsonl") }' "$rows/$skill.jsonl"
	done
	printf '{%s}\n' "$info" >"$rows/dataset_info.json"
	for part in val test pool; do
		pack "$(printf "%s.$part," reverse shout add order continue)translate.$part" $part
	done
	;;
*)
	echo "weigh-data.sh: $scene: no such scene" >&2
	exit 64
	;;
esac
