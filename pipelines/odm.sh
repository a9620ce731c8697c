#!/bin/sh
# Online data mixing, end to end: while the model trains, datasets with high losses get larger shares of the rows
# (Albalak et al. 2023, arXiv 2312.02406).
#
#   DATA=mydata POOL=wiki,c4 TARGET=wiki=50,c4=50 pipelines/odm.sh
#
# TARGET's rows are held out of each dataset, to measure on.  common.sh has the other settings.  You can stop the script
# at any time and run it again.  `odm.mk` runs the same steps with make.
. "$(dirname "$0")/common.sh"

UPDATE=${UPDATE:-20}          # steps between two updates
VARIANT=${VARIANT:-paper}     # or dataflex, repo
PROPORTIONS=${PROPORTIONS:-}  # of the first WARMUP steps: a number for each dataset; nothing: all equal

pack

# Rows in the initial proportions for WARMUP steps, then an update every UPDATE steps.
step "$OUT/run/checkpoint-$STEPS" train train_type=dynamic_mix component_name=odm "component_params.variant=$VARIANT" \
	"warmup_step=$WARMUP" "update_step=$UPDATE" "train_step=$STEPS" ${PROPORTIONS:+"init_mixture_proportions=$PROPORTIONS"}
df-show --plot "$OUT/run.svg" "$OUT/run"
evaluate
