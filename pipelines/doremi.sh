#!/bin/sh
# DoReMi, end to end: two small models find the proportions of the datasets that a large one is trained with
# (Xie et al. 2023, arXiv 2305.10429).
#
#   DATA=mydata POOL=wiki,c4 TARGET=wiki=50,c4=50 pipelines/doremi.sh
#
# TARGET's rows are held out of each dataset, to measure on.  common.sh has the other settings.  You can stop the script
# at any time and run it again.  `doremi.mk` runs the same steps with make -j.
. "$(dirname "$0")/common.sh"

PROXY=${PROXY:-$CONFIG} # configuration of the two small models
PROXY_STEPS=${PROXY_STEPS:-$STEPS}
ETA=${ETA:-1}                 # how fast the weights follow the excess losses
SMOOTHING=${SMOOTHING:-0.001} # the fraction that is divided equally

small() { # name, keys
	name=$1
	shift
	df-train "$PROXY" "tokenized_path=$OUT/pool.h5" "output_dir=$OUT/$name" train_type=dynamic_mix \
		"train_step=$PROXY_STEPS" "$@"
}

pack

# 1. The reference: rows in proportion to the sizes of the datasets.  What each token costs it is computed once.
step "$OUT/reference/checkpoint-$PROXY_STEPS" small reference static_mix=true mixture_sample_rule=stratified
step "$OUT/reference.h5" df-grad -m "$OUT/reference/checkpoint-$PROXY_STEPS" --losses --token-loss "$OUT/pool.h5" -o "$OUT/reference.h5"

# 2. The proxy: rows of all datasets equally; those weigh more where it is worse than the reference.  The mean weights
# are the proportions.
step "$OUT/proxy/domain_weights.h5" small proxy component_name=doremi "component_params.eta=$ETA" \
	"component_params.smoothing=$SMOOTHING" "component_params.reference_losses=$OUT/reference.h5" "update_step=$PROXY_STEPS"
df-show "$OUT/proxy/domain_weights.h5"

# 3. The model itself, with these proportions.
step "$OUT/run/checkpoint-$STEPS" train train_type=dynamic_mix static_mix=true "train_step=$STEPS" \
	"init_mixture_proportions=$OUT/proxy/domain_weights.h5"
evaluate
