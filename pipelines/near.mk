# NEAR as a makefile:
#
#   make -j -f pipelines/near.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# The same steps, files and bytes as `near.sh`, but the pool is embedded in SHARDS parts, in
# parallel with -j.  common.mk has the settings, and the rules that all methods share.
include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

MODEL ?= $(WARM)# or a better embedder
EMBED  = df-embed -m $(MODEL) --pooling position
PARTS  = $(call parts,pool.emb)
.PRECIOUS: $(PARTS) $(OUT)/val.emb.h5

$(PARTS): $(OUT)/pool.emb.%-of-$(COUNT).h5: $(READY) $(OUT)/pool.h5
	$(EMBED) --shard $*/$(SHARDS) $(ONE_EACH) $(OUT)/pool.h5 -o $(OUT)/pool.emb.h5

$(OUT)/val.emb.h5: $(READY) $(OUT)/val.h5
	$(EMBED) $(OUT)/val.h5 -o $@

$(OUT)/index.h5: $(PARTS) $(OUT)/val.emb.h5
	df-score near --train '$(OUT)/pool.emb.*-of-$(COUNT).h5' --query $(OUT)/val.emb.h5 -n $(SELECT) -o $@
