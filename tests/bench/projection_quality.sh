#!/bin/bash
# projection_quality.sh - is LESS's selection the same with a sparse projection as with a dense one, and without any?
#
#   projection_quality.sh [-s SEEDS] [-d DATA_DIR] [SET...]       (with build/bin, build/bench and build/demo in the PATH)
#
# SETs, all by default: demo-full, demo-lora: the demonstration's pool of six skills, its model after 100 steps, full
# fine-tuning and rank 8; mixed-full, mixed-lora: the English and Chinese instructions of DATA_DIR (a
# dataset_info.json with alpaca_en_demo and alpaca_zh_demo), 50 Chinese rows as the target, configs/tiny-sft after 200
# steps.  K (default "512 2048 8192") are the dimensions, for full fine-tuning without those above KFULL (2048).
# OUT keeps the files: about 4 GB.  Training gradients are in Adam's form, those of the target are plain.
set -eu
seeds=5
data=../shared/data
while getopts s:d: opt; do
	case $opt in
	s) seeds=$OPTARG ;;
	d) data=$OPTARG ;;
	*) exit 64 ;;
	esac
done
shift $((OPTIND - 1))
sets=${*:-demo-lora mixed-lora demo-full mixed-full}
here=$(cd "$(dirname "$0")" && pwd)
root=${here%/tests/bench}
data=$(cd "$root" && cd "$data" && pwd)
work=${OUT:-$(mktemp -d)}
[ -n "${OUT:-}" ] || trap 'rm -rf "$work"' EXIT
mkdir -p "$work"
cd "$root"

make() { # FILE COMMAND...: run the command unless the file exists
	[ -e "$1" ] || { shift; "$@"; }
}

pack_demo() {
	mkdir -p "$work/data"
	make "$work/data/dataset_info.json" generate "$work/data" 1
	for set in pool:translate,reverse,shout,add,order,continue val:val; do
		make "$work/demo.${set%%:*}.h5" df-pack -q --dataset-dir "$work/data" --dataset "${set#*:}" --template default \
			--tokenizer bytes --cutoff-len 128 -o "$work/demo.${set%%:*}.h5"
	done
}

pack_mixed() {
	make "$work/mixed.pool.h5" df-pack -q --dataset-dir "$data" --dataset alpaca_en_demo,alpaca_zh_demo --template alpaca \
		--tokenizer bytes --cutoff-len 512 --holdout alpaca_zh_demo=50 --holdout-output "$work/mixed.val.h5" \
		-o "$work/mixed.pool.h5"
}

# NAME of the set: its model, trained from scratch; then, for lora, adapters on it.
train() {
	local name=$1 set=${1%-*} full config steps
	full=$work/$set-full.run
	case $set in
	demo) config=demo/train.yaml steps=100 ;;
	*) config=configs/tiny-sft.yaml steps=200 ;;
	esac
	make "$full/checkpoint-$steps" df-train $config -q tokenized_path="$work/$set.pool.h5" output_dir="$full" \
		eval_strategy=no --until $steps
	model=$full/checkpoint-$steps
	[ "$name" = "$set-full" ] && return
	make "$work/$name.run/checkpoint-60" df-train -q tokenized_path="$work/$set.pool.h5" model_name_or_path="$model" \
		output_dir="$work/$name.run" stage=sft finetuning_type=lora lora_rank=8 lora_alpha=16 lora_target=all \
		learning_rate=1e-3 per_device_train_batch_size=8 max_steps=100 save_steps=60 --until 60
	model=$work/$name.run/checkpoint-60
}

for name in $sets; do
	ways=
	for k in ${K:-512 2048 8192}; do
		case $name in
		*-full) [ "$k" -le "${KFULL:-2048}" ] || continue ;;
		esac
		for type in rademacher sjlt1 sjlt2 sjlt4 sjlt8; do ways="$ways $type:$k"; done
	done
	pack_"${name%-*}"
	train "$name"
	make "$work/$name.train.h5" df-grad -q -m "$model" --form adam "$work/${name%-*}.pool.h5" -o "$work/$name.train.h5"
	make "$work/$name.val.h5" df-grad -q -m "$model" --form sgd "$work/${name%-*}.val.h5" -o "$work/$name.val.h5"
	printf '\n%s: ' "$name"
	# shellcheck disable=SC2086 # words
	projection_quality "$work/$name.train.h5" "$work/$name.val.h5" "$seeds" $ways
	[ -n "${OUT:-}" ] || rm -f "$work/$name.train.h5"
done
