#!/bin/sh
# LESS, end to end: a short warm-up, a score for each sample's influence on a target, the
# selection, and more training with the selection (Xia et al. 2024, arXiv 2402.04333).
#
#   DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50 pipelines/less.sh
#
# common.sh has the settings, and the steps that all methods share.  You can stop the script at any time and run it
# again.  `less.mk` runs the same steps with make -j.
. "$(dirname "$0")/common.sh"

pack
warm_up # the influence of a sample is measured on a model that has learnt a little

# Adam's step on each training sample, and the gradient of each target sample.
step "$OUT/pool.proj.h5" df-grad -m "$WARM" --form adam --project "$DIM" "$OUT/pool.h5" -o "$OUT/pool.proj.h5"
step "$OUT/val.proj.h5" df-grad -m "$WARM" --form sgd --project "$DIM" "$OUT/val.h5" -o "$OUT/val.proj.h5"

step "$OUT/index.h5" df-score less --train "$OUT/pool.proj.h5" --val "$OUT/val.proj.h5" -n "$SELECT" -o "$OUT/index.h5"
train_and_evaluate
