#!/bin/sh
# SemDeDup, end to end: rows that say the same as another one are left out
# (Abbas et al. 2023, arXiv 2303.09540).
#
#   DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50 pipelines/semdedup.sh
#
# common.sh has the settings, and the steps that all methods share.  You can stop the script at any time and run it
# again.  `semdedup.mk` runs the same steps with make -j.
. "$(dirname "$0")/common.sh"

EPS=${EPS:-0.05} # rows with a cosine above 1 - EPS are the same

pack
warm_up

# Rows are compared by their embeddings: MODEL may name an embedder.  Hidden states of a language model lie close
# together, so they need a smaller difference.
step "$OUT/pool.emb.h5" df-embed -m "${MODEL:-$WARM}" "$OUT/pool.h5" -o "$OUT/pool.emb.h5"
step "$OUT/index.h5" df-score semdedup --train "$OUT/pool.emb.h5" --eps "$EPS" --pairs "$OUT/pairs.h5" -o "$OUT/index.h5"
train_and_evaluate
