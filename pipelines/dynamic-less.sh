#!/bin/sh
# Dynamic LESS, end to end: after a short warm-up the run has WINDOWS windows, and each trains on the samples whose
# influence on the target is largest for the model as it is then (DataFlex; Xia et al. 2024, arXiv 2402.04333).
#
#   DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50 pipelines/dynamic-less.sh
#
# common.sh has the settings, and the steps that all methods share.  You can stop the script at any time and run it
# again.  `dynamic-less.mk` runs the same steps with make -j.
. "$(dirname "$0")/common.sh"

WINDOWS=${WINDOWS:-4} # selections between the warm-up and the end

pack
warm_up

at=$WARMUP
for c in $(seq "$WINDOWS"); do
	model=$OUT/run/checkpoint-$at
	pool=$OUT/pool.proj.$c.h5 val=$OUT/val.proj.$c.h5 index=$OUT/index.$c.h5
	next=$((WARMUP + (STEPS - WARMUP) * c / WINDOWS))
	step "$pool" df-grad -m "$model" --form adam --project "$DIM" "$OUT/pool.h5" -o "$pool"
	step "$val" df-grad -m "$model" --form sgd --project "$DIM" "$OUT/val.h5" -o "$val"
	step "$index" df-score less --train "$pool" --val "$val" -n "$SELECT" -o "$index"
	step "$OUT/run/checkpoint-$next" train --index "$index" --until "$next"
	at=$next
done
cp "$index" "$OUT/index.h5"
train_and_evaluate
