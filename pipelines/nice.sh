#!/bin/sh
# NICE, end to end: as less.sh, but the target is a reward instead of given answers.  After the warm-up the
# model answers the target's prompts many times, a program or a reward model judges the answers, and training
# samples score by their influence on the expected reward (Wang et al. 2025).
#
#   DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50 pipelines/nice.sh
#
# Rewards come from one of
#   MATCH=strip            the answer is that of the data, 1 or 0 (the default; df-eval --match)
#   REWARD='my-program'    reads df-sample's JSON lines, prints rewards as df-grad(1) reads them
#   JUDGE=reward-model     a reward model with the same tokenizer
#
# Every step makes a file, and is skipped if its file exists, so you can stop the
# script at any time and run it again.  `nice.mk` runs the same steps with make -j.
set -eu

DATA=${DATA:?set DATA to the folder of dataset_info.json}
POOL=${POOL:?set POOL to the datasets to choose from, comma-separated}
TARGET=${TARGET:?set TARGET to NAME=N: hold N rows of dataset NAME out as the target}
CONFIG=${CONFIG:-configs/tiny-sft.yaml}
TOKENIZER=${TOKENIZER:-bytes}
TEMPLATE=${TEMPLATE:-alpaca}
CUTOFF=${CUTOFF:-512}
OUT=${OUT:-nice}      # everything goes here
WARMUP=${WARMUP:-100} # steps before the selection
STEPS=${STEPS:-200}   # steps in total
SELECT=${SELECT:-400} # rows to select
DIM=${DIM:-2048}      # dimensions of the projection
SAMPLES=${SAMPLES:-20}         # answers to each prompt
TEMPERATURE=${TEMPERATURE:-1}  # of their draws
MAX_TOKENS=${MAX_TOKENS:-128}  # most tokens of an answer
POLICY=${POLICY:-vanilla}      # which answers count (df-grad --policy)
MATCH=${MATCH:-strip}
REWARD=${REWARD:-}
JUDGE=${JUDGE:-}

mkdir -p "$OUT"
warm=$OUT/run/checkpoint-$WARMUP

if ! [ -e "$OUT/pool.h5" ] || ! [ -e "$OUT/val.h5" ]; then
	df-pack --dataset-dir "$DATA" --dataset "$POOL" --template "$TEMPLATE" --tokenizer "$TOKENIZER" --cutoff-len "$CUTOFF" \
		--holdout "$TARGET" --holdout-output "$OUT/val.h5" -o "$OUT/pool.h5"
fi

# Warm-up: influence is measured on a model that has learnt a little.
[ -e "$warm" ] || df-train "$CONFIG" "tokenized_path=$OUT/pool.h5" "output_dir=$OUT/run" --until "$WARMUP"

# Its own answers, as tokens and as text.
if ! [ -e "$OUT/draws.h5" ] || ! [ -e "$OUT/draws.jsonl" ]; then
	df-sample -m "$warm" "$OUT/val.h5" -n "$SAMPLES" --temperature "$TEMPERATURE" --top-k 50 --top-p 0.95 \
		--max-new-tokens "$MAX_TOKENS" -o "$OUT/draws.h5" --json "$OUT/draws.jsonl"
fi

if ! [ -e "$OUT/rewards" ]; then
	if [ -n "$JUDGE" ]; then
		df-eval -m "$JUDGE" "$OUT/draws.h5" -o "$OUT/rewards.tmp"
	elif [ -n "$REWARD" ]; then
		sh -c "$REWARD" <"$OUT/draws.jsonl" >"$OUT/rewards.tmp"
	else
		df-eval --completions "$OUT/draws.jsonl" --match "$MATCH" --details "$OUT/rewards.tmp"
	fi
	mv "$OUT/rewards.tmp" "$OUT/rewards"
fi

# Adam's step on each training sample, and the policy gradient of each prompt.
[ -e "$OUT/pool.proj.h5" ] || df-grad -m "$warm" --form adam --project "$DIM" "$OUT/pool.h5" -o "$OUT/pool.proj.h5"
[ -e "$OUT/val.proj.h5" ] ||
	df-grad -m "$warm" --rewards "$OUT/rewards" --policy "$POLICY" --project "$DIM" "$OUT/draws.h5" -o "$OUT/val.proj.h5"

[ -e "$OUT/index.h5" ] ||
	df-score nice --train "$OUT/pool.proj.h5" --val "$OUT/val.proj.h5" -n "$SELECT" -o "$OUT/index.h5"

[ -e "$OUT/run/checkpoint-$STEPS" ] ||
	df-train "$CONFIG" "tokenized_path=$OUT/pool.h5" "output_dir=$OUT/run" --index "$OUT/index.h5" --until "$STEPS"

df-eval -m "$OUT/run/checkpoint-$STEPS" "$OUT/val.h5" >"$OUT/eval.tmp"
mv "$OUT/eval.tmp" "$OUT/eval.txt"
cat "$OUT/eval.txt"
