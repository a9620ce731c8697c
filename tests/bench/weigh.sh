#!/bin/sh
# weigh.sh - what weights of samples cost: a step with a weigher over a plain one, user CPU time of one thread, in pairs.
#
#   weigh.sh [PAIRS [METHOD [key=value ...]]]     METHOD: loss (the default), adapt, joint_update_aware, custom
#
# Each run trains model-512 for a few steps on rows of about 250 tokens, which are long beside what a step costs besides;
# the time of a run of one step is taken off.  VOCAB gives the model another size of vocabulary: with 32000 the head is a
# good part of a step.
set -eu

pairs=${1:-7}
method=${2:-loss}
[ $# -eq 0 ] || shift
[ $# -eq 0 ] || shift
here=$(cd "$(dirname "$0")/../.." && pwd)
bin=${BUILD:-$here/build}/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
mkdir data
awk 'BEGIN {
	srand(1)
	for (i = 0; i < 64; i++) {
		printf "{\"instruction\": \"Row %d\", \"input\": \"\", \"output\": \"", i
		for (j = 0; j < 150; j++)
			printf "%c", 97 + int(rand() * 26)
		print "\"}"
	}
}' >data/rows.jsonl
echo '{ "rows": { "file_name": "rows.jsonl" } }' >data/dataset_info.json
"$bin/df-pack" -q --dataset-dir data --dataset rows --template alpaca --tokenizer bytes --cutoff-len 512 \
	--holdout rows=8 --holdout-output val.h5 -o pool.h5

model=$here/tests/bench/model-512
if [ -n "${VOCAB:-}" ]; then
	mkdir model
	sed "s/\"vocab_size\": *[0-9]*/\"vocab_size\": $VOCAB/" "$model/config.json" >model/config.json
	model=$work/model
fi

# cpu KEY STEPS [key=value ...]: user seconds
cpu() {
	length=$1 steps=$2
	shift 2
	rm -rf run
	{ command time -f %U "$bin/df-train" -q -j 1 model_name_or_path="$model" train_from_scratch=true \
		finetuning_type=full tokenized_path=pool.h5 output_dir=run per_device_train_batch_size=4 "$length=$steps" \
		save_strategy=no logging_steps=1000 learning_rate=1e-4 "$@" 2>&1 >&3 | tail -n 1; } 3>/dev/null
}
weighed="train_type=dynamic_weight component_name=$method eval_tokenized_path=val.h5"

i=0
while [ $i -lt "$pairs" ]; do
	a=$(cpu max_steps 1) b=$(cpu max_steps 7)
	# shellcheck disable=SC2086 # words
	c=$(cpu train_step 1 $weighed "$@") d=$(cpu train_step 7 $weighed "$@")
	echo "$a $b $c $d"
	i=$((i + 1))
done | awk '{ plain = $2 - $1; with = $4 - $3; x[NR] = with / plain; p += plain; w += with }
END {
	for (i = 1; i <= NR; i++)
		for (j = i + 1; j <= NR; j++)
			if (x[j] < x[i]) { t = x[i]; x[i] = x[j]; x[j] = t }
	printf "ratio %.3f (%.3f to %.3f) of %d pairs; plain %.2f s, weighed %.2f s for 6 steps\n", x[int((NR + 1) / 2)], x[1], x[NR], NR, p / NR, w / NR
}'
