# NEAR as a makefile:
#
#   make -j -f pipelines/near.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# The same steps, files and bytes as `near.sh`, but the pool is embedded in SHARDS parts, in
# parallel with -j.  common.mk has the settings, and the rules that all methods share.
include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

EMBED += --pooling position

$(OUT)/index.h5: $(EMBEDDINGS) $(OUT)/val.emb.h5
	df-score near --train $(call set,pool.emb) --query $(OUT)/val.emb.h5 -n $(SELECT) -o $@
