#!/bin/sh
# Selection by loss, end to end: draws that prefer rows of low, medium or high loss (DataFlex).
#
#   DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50 pipelines/loss.sh
#
# common.sh has the settings, and the steps that all methods share.  You can stop the script at any time and run it
# again.  `loss.mk` runs the same steps with make -j.
. "$(dirname "$0")/common.sh"

FOCUS=${FOCUS:-medium} # low, medium or high

pack
warm_up

step "$OUT/pool.loss.h5" df-grad -m "$WARM" --losses "$OUT/pool.h5" -o "$OUT/pool.loss.h5"

step "$OUT/index.h5" df-score loss --train "$OUT/pool.loss.h5" --focus "$FOCUS" -n "$SELECT" -o "$OUT/index.h5"
train_and_evaluate
