#!/bin/sh
# NEAR, end to end: the rows nearest to a target, each query in turn (DataFlex).
#
#   DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50 pipelines/near.sh
#
# common.sh has the settings, and the steps that all methods share.  You can stop the script at any time and run it
# again.  `near.mk` runs the same steps with make -j.
. "$(dirname "$0")/common.sh"

pack
warm_up

# Hidden states of the model itself; MODEL may name an embedder, or a larger model.
step "$OUT/pool.emb.h5" df-embed -m "${MODEL:-$WARM}" --pooling position "$OUT/pool.h5" -o "$OUT/pool.emb.h5"
step "$OUT/val.emb.h5" df-embed -m "${MODEL:-$WARM}" --pooling position "$OUT/val.h5" -o "$OUT/val.emb.h5"

step "$OUT/index.h5" df-score near --train "$OUT/pool.emb.h5" --query "$OUT/val.emb.h5" -n "$SELECT" -o "$OUT/index.h5"
train_and_evaluate
