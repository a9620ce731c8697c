#!/bin/sh
# Weights of samples, end to end: each step's samples count by how near they are to a target (ADAPT, as in DataFlex), by
# their losses (Sow et al. 2025, arXiv 2502.06733), or by nearness and what they share (joint_update_aware).
#
#   DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50 pipelines/adapt.sh
#
# common.sh has the settings.  You can stop the script at any time and run it again.  `adapt.mk` runs the same steps with
# make.
. "$(dirname "$0")/common.sh"

METHOD=${METHOD:-adapt} # or loss, joint_update_aware
PARAMS=${PARAMS:-}      # of the method, as component_params.NAME=VALUE

pack

# Plain steps up to WARMUP; from then on weights.  The target's rows are the anchors that samples are compared with.
# shellcheck disable=SC2086 # words
step "$OUT/run/checkpoint-$STEPS" train "eval_tokenized_path=$OUT/val.h5" train_type=dynamic_weight \
	"component_name=$METHOD" $PARAMS "warmup_step=$WARMUP" "train_step=$STEPS"
df-show --plot "$OUT/run.svg" "$OUT/run"
evaluate
