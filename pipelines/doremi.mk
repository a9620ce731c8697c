# DoReMi as a makefile:
#
#   make -f pipelines/doremi.mk DATA=mydata POOL=wiki,c4 TARGET=wiki=50,c4=50
#
# The same steps, files and bytes as `doremi.sh`, but the reference's losses are computed in SHARDS parts, in parallel with
# -j.  common.mk has the settings, and the rules that all methods share.
PROXY       ?= $(CONFIG)# configuration of the two small models
PROXY_STEPS ?= $(STEPS)
ETA         ?= 1# how fast the weights follow the excess losses
SMOOTHING   ?= 0.001# the fraction that is divided equally

# 3. The model itself, with the proportions that were found.
FINISH_NEEDS = $(WEIGHTS)
FINISH       = $(TRAIN) train_type=dynamic_mix static_mix=true train_step=$(STEPS) init_mixture_proportions=$(WEIGHTS)
WEIGHTS      = $(OUT)/proxy/domain_weights.h5

include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

REFERENCE = $(OUT)/reference/checkpoint-$(PROXY_STEPS)
REF_LOSS  = $(call parts,reference)
SMALL     = df-train $(PROXY) tokenized_path=$(OUT)/pool.h5 train_type=dynamic_mix train_step=$(PROXY_STEPS)
.PRECIOUS: $(REFERENCE)/df_state.json $(REF_LOSS) $(WEIGHTS)

# 1. The reference: rows in proportion to the sizes of the datasets.  What each token costs it is computed once.
$(REFERENCE)/df_state.json: $(OUT)/pool.h5
	$(SMALL) output_dir=$(OUT)/reference static_mix=true mixture_sample_rule=stratified

$(REF_LOSS): $(OUT)/reference.%-of-$(COUNT).h5: $(REFERENCE)/df_state.json
	df-grad -m $(REFERENCE) --losses --token-loss --shard $*/$(SHARDS) $(ONE_EACH) $(OUT)/pool.h5 -o $(OUT)/reference.h5

# 2. The proxy: rows of all datasets equally; those weigh more where it is worse than the reference.  The mean weights
# are the proportions.
$(WEIGHTS): $(REF_LOSS)
	$(SMALL) output_dir=$(OUT)/proxy component_name=doremi component_params.eta=$(ETA) \
	    component_params.smoothing=$(SMOOTHING) component_params.reference_losses=$(OUT)/reference.h5 update_step=$(PROXY_STEPS)
	df-show $@
