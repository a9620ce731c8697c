#!/bin/sh
# cluster-LESS, end to end: LESS by the gradients of a few representatives of each cluster (DataFlex).
#
#   DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50 pipelines/cluster-less.sh
#
# common.sh has the settings, and the steps that all methods share.  You can stop the script at any time and run it
# again.  `cluster-less.mk` runs the same steps with make -j.
. "$(dirname "$0")/common.sh"

pack
warm_up

step "$OUT/pool.emb.h5" df-embed -m "${MODEL:-$WARM}" "$OUT/pool.h5" -o "$OUT/pool.emb.h5"
step "$OUT/reps.h5" df-score cluster --train "$OUT/pool.emb.h5" --per-cluster "${PER_CLUSTER:-3}" \
	--scores-output "$OUT/clusters.h5" -o "$OUT/reps.h5"

# Gradients of the representatives only.
step "$OUT/reps.proj.h5" df-grad -m "$WARM" --form adam --project "$DIM" --index "$OUT/reps.h5" "$OUT/pool.h5" -o "$OUT/reps.proj.h5"
step "$OUT/val.proj.h5" df-grad -m "$WARM" --form sgd --project "$DIM" "$OUT/val.h5" -o "$OUT/val.proj.h5"

step "$OUT/index.h5" df-score cluster-less --train "$OUT/clusters.h5" --reps "$OUT/reps.proj.h5" --val "$OUT/val.proj.h5" \
	-n "$SELECT" -o "$OUT/index.h5"
train_and_evaluate
