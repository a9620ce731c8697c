#!/bin/sh
# realdata.sh - the loop on real text: does LESS find the language of the target,
# and does pretraining lower the perplexity of text held out?
#
#   DATA=dir tests/bench/realdata.sh      (with build/bin in the PATH)
#
# DATA holds alpaca_en_demo, alpaca_zh_demo, c4_demo and wiki_demo in LLaMA-Factory's
# format.  The pool is 999 English and 946 Chinese instructions, the target 50
# held out Chinese ones: the right answer is known, and chance is 49 %.
set -eu
: "${DATA:?set DATA to the folder of dataset_info.json}"
work=${OUT:-$(mktemp -d)}
warmups=${WARMUPS:-25 100} # LESS is tried after each; training goes on from the last
warmup=${warmups##* }
cd "$(dirname "$0")/../.."

echo "# LESS: Chinese rows among the 400 chosen of 1945 (946 Chinese), by length of the warm-up"
df-pack -q --dataset-dir "$DATA" --dataset alpaca_en_demo,alpaca_zh_demo --template alpaca --tokenizer bytes --cutoff-len 512 \
	--holdout alpaca_zh_demo=50 --holdout-output "$work/val.h5" -o "$work/pool.h5"
for steps in $warmups; do
	df-train configs/tiny-sft.yaml -q tokenized_path="$work/pool.h5" output_dir="$work/run" --until "$steps"
	df-grad -q -m "$work/run/checkpoint-$steps" --form adam --project 2048 "$work/pool.h5" -o "$work/pool-$steps.proj.h5"
	df-grad -q -m "$work/run/checkpoint-$steps" --form sgd --project 2048 "$work/val.h5" -o "$work/val-$steps.proj.h5"
	echo "warm-up of $steps steps: $(df-score less --train "$work/pool-$steps.proj.h5" --val "$work/val-$steps.proj.h5" -n 400 -o "$work/index-$steps.h5" 2>&1 | sed -n 's/.*: \(chose.*\)/\1/p')"
done
echo "random: $(df-score random --train "$work/pool-$warmup.proj.h5" -n 400 -o "$work/random.h5" 2>&1 | sed -n 's/.*: \(chose.*\)/\1/p')"

echo
echo "# Loss on the 50 held out rows after 100 more steps (df-eval, all targets)"
for arm in index-$warmup random; do
	mkdir -p "$work/$arm"
	cp -R "$work/run/checkpoint-$warmup" "$work/$arm/"
	df-train configs/tiny-sft.yaml -q tokenized_path="$work/pool.h5" output_dir="$work/$arm" --index "$work/$arm.h5" --until $((warmup + 100))
	echo "$arm: $(df-eval -q -m "$work/$arm/checkpoint-$((warmup + 100))" "$work/val.h5" | tail -n 1)"
done

echo
echo "# Pretraining on c4_demo and wiki_demo: perplexity of held out documents, per byte"
df-pack -q --stage pt --dataset-dir "$DATA" --dataset c4_demo,wiki_demo --template empty --tokenizer bytes --cutoff-len 512 \
	--holdout c4_demo=30 --holdout wiki_demo=3 --holdout-output "$work/pt-val.h5" -o "$work/pt.h5"
for steps in 1 50 200; do
	df-train configs/tiny-pt.yaml -q tokenized_path="$work/pt.h5" output_dir="$work/pt" max_steps=200 eval_strategy=no --until "$steps"
	echo "after $steps steps:"
	df-eval -q -m "$work/pt/checkpoint-$steps" "$work/pt-val.h5"
done
[ -n "${OUT:-}" ] || rm -rf "$work"
