#!/bin/sh
# The best that differ, end to end: by LESS's scores, unless a row is too similar to one that was taken
# (the filter of DEITA, Liu et al. 2024, arXiv 2312.15685).
#
#   DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50 pipelines/diverse.sh
#
# common.sh has the settings, and the steps that all methods share.  You can stop the script at any time and run it
# again.  `diverse.mk` runs the same steps with make -j.
. "$(dirname "$0")/common.sh"

THRESHOLD=${THRESHOLD:-0.9} # the largest cosine of two chosen rows

pack
warm_up

step "$OUT/pool.proj.h5" df-grad -m "$WARM" --form adam --project "$DIM" "$OUT/pool.h5" -o "$OUT/pool.proj.h5"
step "$OUT/val.proj.h5" df-grad -m "$WARM" --form sgd --project "$DIM" "$OUT/val.h5" -o "$OUT/val.proj.h5"
step "$OUT/scores.h5" df-score less --train "$OUT/pool.proj.h5" --val "$OUT/val.proj.h5" --scores-output "$OUT/scores.h5"
# Rows are compared by their embeddings: MODEL may name an embedder.  Hidden states of a language model lie close
# together, so they need a smaller difference.
step "$OUT/pool.emb.h5" df-embed -m "${MODEL:-$WARM}" "$OUT/pool.h5" -o "$OUT/pool.emb.h5"

step "$OUT/index.h5" df-score diverse --train "$OUT/pool.emb.h5" --scores "$OUT/scores.h5" --threshold "$THRESHOLD" \
	-n "$SELECT" -o "$OUT/index.h5"
train_and_evaluate
