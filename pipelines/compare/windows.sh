#!/bin/sh
# windows.sh DIR METHOD FROM TO N MAKE TRAIN... - train from step FROM to TO in N windows, each on rows that METHOD
# chooses with the model of its beginning (../compare.mk: what MAKE makes for one selection).
set -eu
dir=$1 method=$2 from=$3 to=$4 n=$5 make=$6
shift 6
run=$dir/run.$method+
window=1 at=$from
while [ "$window" -le "$n" ]; do
	next=$((from + (to - from) * window / n))
	d=$dir/$method+.$window
	if [ "$window" -eq 1 ]; then
		model=$dir/warm/checkpoint-$from resume=resume_from_checkpoint=$model
	else
		model=$run/checkpoint-$at resume=
	fi
	if ! [ -e "$run/checkpoint-$next" ]; then
		$make --no-print-directory "D=$d" "CHECKPOINT=$model" "WINDOW=$window" "$d/$method.index.h5"
		# shellcheck disable=SC2086 # nothing, or one word
		"$@" "output_dir=$run" $resume --index "$d/$method.index.h5" --until "$next"
	fi
	at=$next
	window=$((window + 1))
done
