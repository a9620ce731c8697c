# SemDeDup as a makefile:
#
#   make -j -f pipelines/semdedup.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# The same steps, files and bytes as `semdedup.sh`, but the pool is embedded in SHARDS parts, in
# parallel with -j.  common.mk has the settings, and the rules that all methods share.
include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

MODEL ?= $(WARM)# or a better embedder
EPS   ?= 0.05# rows with a cosine above 1 - EPS are the same
PARTS  = $(call parts,pool.emb)
.PRECIOUS: $(PARTS)

$(PARTS): $(OUT)/pool.emb.%-of-$(COUNT).h5: $(READY) $(OUT)/pool.h5
	df-embed -m $(MODEL) --shard $*/$(SHARDS) $(ONE_EACH) $(OUT)/pool.h5 -o $(OUT)/pool.emb.h5

$(OUT)/index.h5: $(PARTS)
	df-score semdedup --train '$(OUT)/pool.emb.*-of-$(COUNT).h5' --eps $(EPS) --pairs $(OUT)/pairs.h5 -o $@
