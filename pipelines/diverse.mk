# The best that differ as a makefile:
#
#   make -j -f pipelines/diverse.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# The same steps, files and bytes as `diverse.sh`, but the gradients of the pool are computed in SHARDS
# parts, in parallel with -j.  common.mk has the settings, and the rules that all methods share.
include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

MODEL     ?= $(WARM)# or a better embedder
THRESHOLD ?= 0.9# the largest cosine of two chosen rows
GRAD  = df-grad -m $(WARM) --project $(DIM)
PARTS = $(call parts,pool.proj)
.PRECIOUS: $(PARTS) $(OUT)/val.proj.h5 $(OUT)/scores.h5 $(OUT)/pool.emb.h5

$(PARTS): $(OUT)/pool.proj.%-of-$(COUNT).h5: $(READY) $(OUT)/pool.h5
	$(GRAD) --form adam --shard $*/$(SHARDS) $(ONE_EACH) $(OUT)/pool.h5 -o $(OUT)/pool.proj.h5

$(OUT)/val.proj.h5: $(READY) $(OUT)/val.h5
	$(GRAD) --form sgd $(OUT)/val.h5 -o $@

$(OUT)/scores.h5: $(PARTS) $(OUT)/val.proj.h5
	df-score less --train '$(OUT)/pool.proj.*-of-$(COUNT).h5' --val $(OUT)/val.proj.h5 --scores-output $@

$(OUT)/pool.emb.h5: $(READY) $(OUT)/pool.h5
	df-embed -m $(MODEL) $(OUT)/pool.h5 -o $@

$(OUT)/index.h5: $(OUT)/scores.h5 $(OUT)/pool.emb.h5
	df-score diverse --train $(OUT)/pool.emb.h5 --scores $(OUT)/scores.h5 --threshold $(THRESHOLD) -n $(SELECT) -o $@
