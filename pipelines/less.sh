#!/bin/sh
# LESS, end to end: a short warm-up, a score for each sample's influence on a target, the
# selection, and more training with the selection (Xia et al. 2024, arXiv 2402.04333).
#
#   DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50 pipelines/less.sh
#
# Every step makes a file, and is skipped if its file exists, so you can stop the
# script at any time and run it again.  `less.mk` runs the same steps with make -j.
set -eu

DATA=${DATA:?set DATA to the folder of dataset_info.json}
POOL=${POOL:?set POOL to the datasets to choose from, comma-separated}
TARGET=${TARGET:?set TARGET to NAME=N: hold N rows of dataset NAME out as the target}
CONFIG=${CONFIG:-configs/tiny-sft.yaml}
TOKENIZER=${TOKENIZER:-bytes}
TEMPLATE=${TEMPLATE:-alpaca}
CUTOFF=${CUTOFF:-512}
OUT=${OUT:-less}      # everything goes here
WARMUP=${WARMUP:-100} # steps before the selection
STEPS=${STEPS:-200}   # steps in total
SELECT=${SELECT:-400} # rows to select
DIM=${DIM:-2048}      # dimensions of the projection

mkdir -p "$OUT"

if ! [ -e "$OUT/pool.h5" ] || ! [ -e "$OUT/val.h5" ]; then
	df-pack --dataset-dir "$DATA" --dataset "$POOL" --template "$TEMPLATE" --tokenizer "$TOKENIZER" --cutoff-len "$CUTOFF" \
		--holdout "$TARGET" --holdout-output "$OUT/val.h5" -o "$OUT/pool.h5"
fi

# Warm-up: the influence of a sample is measured on a model that has learnt a little.
[ -e "$OUT/run/checkpoint-$WARMUP" ] ||
	df-train "$CONFIG" "tokenized_path=$OUT/pool.h5" "output_dir=$OUT/run" --until "$WARMUP"

# Adam's step on each training sample, and the gradient of each target sample.
[ -e "$OUT/pool.proj.h5" ] ||
	df-grad -m "$OUT/run/checkpoint-$WARMUP" --form adam --project "$DIM" "$OUT/pool.h5" -o "$OUT/pool.proj.h5"
[ -e "$OUT/val.proj.h5" ] ||
	df-grad -m "$OUT/run/checkpoint-$WARMUP" --form sgd --project "$DIM" "$OUT/val.h5" -o "$OUT/val.proj.h5"

[ -e "$OUT/index.h5" ] ||
	df-score less --train "$OUT/pool.proj.h5" --val "$OUT/val.proj.h5" -n "$SELECT" -o "$OUT/index.h5"

[ -e "$OUT/run/checkpoint-$STEPS" ] ||
	df-train "$CONFIG" "tokenized_path=$OUT/pool.h5" "output_dir=$OUT/run" --index "$OUT/index.h5" --until "$STEPS"

df-eval -m "$OUT/run/checkpoint-$STEPS" "$OUT/val.h5" >"$OUT/eval.tmp"
mv "$OUT/eval.tmp" "$OUT/eval.txt"
cat "$OUT/eval.txt"
