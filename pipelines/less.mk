# LESS as a graph of files: make -j -f pipelines/less.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# Stop it at any time and call it again: finished files are kept, half-done
# ones go on where they were.  The gradients of the pool are taken in SHARDS
# parts, side by side with -j.  `make -n` shows the plan.

CONFIG    ?= configs/tiny-sft.yaml
TOKENIZER ?= bytes
TEMPLATE  ?= alpaca
CUTOFF    ?= 512
OUT       ?= less
WARMUP    ?= 100
STEPS     ?= 200
SELECT    ?= 400
DIM       ?= 2048
SHARDS    ?= 4

WARM   = $(OUT)/run/checkpoint-$(WARMUP)
FINAL  = $(OUT)/run/checkpoint-$(STEPS)
COUNT := $(shell printf %05d $(SHARDS))
PARTS := $(foreach i,$(shell seq $(SHARDS)),$(OUT)/pool.proj.$(shell printf %05d $(i))-of-$(COUNT).h5)

# The directories of checkpoints appear whole, so their state file is the target.
.PHONY: all
all: $(OUT)/eval.txt

$(OUT)/eval.txt: $(FINAL)/df_state.json $(OUT)/val.h5
	df-eval -m $(FINAL) $(OUT)/val.h5 > $@.tmp && mv $@.tmp $@ && cat $@

# One call makes both files.
$(OUT)/pool.h5 $(OUT)/val.h5 &:
	@mkdir -p $(OUT)
	df-pack --dataset-dir "$(DATA)" --dataset "$(POOL)" --template $(TEMPLATE) --tokenizer $(TOKENIZER) \
	    --cutoff-len $(CUTOFF) --holdout "$(TARGET)" --holdout-output $(OUT)/val.h5 -o $(OUT)/pool.h5

$(WARM)/df_state.json: $(OUT)/pool.h5 $(CONFIG)
	df-train $(CONFIG) tokenized_path=$(OUT)/pool.h5 output_dir=$(OUT)/run --until $(WARMUP)

$(OUT)/pool.proj.%-of-$(COUNT).h5: $(WARM)/df_state.json $(OUT)/pool.h5
	df-grad -m $(WARM) --form adam --project $(DIM) --shard $$(expr $* + 0)/$(SHARDS) -j 1 $(OUT)/pool.h5 -o $(OUT)/pool.proj.h5

$(OUT)/val.proj.h5: $(WARM)/df_state.json $(OUT)/val.h5
	df-grad -m $(WARM) --form sgd --project $(DIM) $(OUT)/val.h5 -o $@

$(OUT)/index.h5: $(PARTS) $(OUT)/val.proj.h5
	df-score less --train '$(OUT)/pool.proj.*-of-$(COUNT).h5' --val $(OUT)/val.proj.h5 -n $(SELECT) -o $@

$(FINAL)/df_state.json: $(OUT)/index.h5
	df-train $(CONFIG) tokenized_path=$(OUT)/pool.h5 output_dir=$(OUT)/run --index $(OUT)/index.h5 --until $(STEPS)
