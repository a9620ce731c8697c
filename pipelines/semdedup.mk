# SemDeDup as a makefile:
#
#   make -j -f pipelines/semdedup.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# The same steps, files and bytes as `semdedup.sh`, but the pool is embedded in SHARDS parts, in
# parallel with -j.  common.mk has the settings, and the rules that all methods share.
include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

EPS ?= 0.05# rows with a cosine above 1 - EPS are the same

$(OUT)/index.h5: $(EMBEDDINGS)
	df-score semdedup --train $(call set,pool.emb) --eps $(EPS) --pairs $(OUT)/pairs.h5 -o $@
