#!/bin/sh
# Selection by perplexity, end to end: the rows that the model finds hardest, or those of a band.
#
#   DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50 pipelines/ppl.sh
#
# common.sh has the settings, and the steps that all methods share.  You can stop the script at any time and run it
# again.  `ppl.mk` runs the same steps with make -j.
. "$(dirname "$0")/common.sh"

BAND=${BAND:-0.2,0.9} # quantiles of the losses that are considered

pack
warm_up

step "$OUT/pool.loss.h5" df-grad -m "$WARM" --losses "$OUT/pool.h5" -o "$OUT/pool.loss.h5"

step "$OUT/index.h5" df-score ppl --train "$OUT/pool.loss.h5" --band "$BAND" -n "$SELECT" -o "$OUT/index.h5"
train_and_evaluate
