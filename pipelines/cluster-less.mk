# cluster-LESS as a makefile:
#
#   make -j -f pipelines/cluster-less.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# The same steps, files and bytes as `cluster-less.sh`, but embeddings and gradients are computed in
# SHARDS parts, in parallel with -j.  common.mk has the settings, and the rules that all methods share.
include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

PER_CLUSTER ?= 3# representatives of a cluster
REPS = $(call parts,reps.proj)
.PRECIOUS: $(REPS) $(OUT)/reps.h5 $(OUT)/clusters.h5 $(OUT)/val.proj.h5

$(OUT)/reps.h5 $(OUT)/clusters.h5 &: $(EMBEDDINGS)
	df-score cluster --train $(call set,pool.emb) --per-cluster $(PER_CLUSTER) \
	    --scores-output $(OUT)/clusters.h5 -o $(OUT)/reps.h5

# Gradients of the representatives only.
$(REPS): $(OUT)/reps.proj.%-of-$(COUNT).h5: $(OUT)/reps.h5
	$(GRAD) --form adam --index $(OUT)/reps.h5 --shard $*/$(SHARDS) $(ONE_EACH) $(OUT)/pool.h5 -o $(OUT)/reps.proj.h5

$(OUT)/val.proj.h5: $(READY) $(OUT)/val.h5
	$(GRAD) --form sgd $(OUT)/val.h5 -o $@

$(OUT)/index.h5: $(OUT)/clusters.h5 $(REPS) $(OUT)/val.proj.h5
	df-score cluster-less --train $(OUT)/clusters.h5 --reps $(call set,reps.proj) --val $(OUT)/val.proj.h5 \
	    -n $(SELECT) -o $@
