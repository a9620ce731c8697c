# What the selection makefiles share: settings, and the rules before and after a selection.  Included, not run.
#
# A makefile says how $(OUT)/index.h5 is made.  Stop it at any time and run it again: finished files are kept, and
# unfinished jobs continue where they stopped.  `make -n` prints the commands.

DATA      ?= $(error set DATA to the folder of dataset_info.json)
POOL      ?= $(error set POOL to the datasets to choose from, comma-separated)
TARGET    ?= $(error set TARGET to NAME=N: hold N rows of dataset NAME out as the target)
CONFIG    ?= configs/tiny-sft.yaml
TOKENIZER ?= bytes
TEMPLATE  ?= alpaca
CUTOFF    ?= 512
OUT       ?= $(basename $(notdir $(firstword $(MAKEFILE_LIST))))# everything goes here
WARMUP    ?= 100# steps before the selection
STEPS     ?= 200# steps in total
SELECT    ?= 400# rows to select, or 5%, or 30Mtok
DIM       ?= 2048# dimensions of a projection
SHARDS    ?= 4

# A checkpoint's directory appears complete or not at all; make looks at one file in it.
WARM  = $(OUT)/run/checkpoint-$(WARMUP)
FINAL = $(OUT)/run/checkpoint-$(STEPS)
READY = $(WARM)/df_state.json

TRAIN = df-train $(CONFIG) tokenized_path=$(OUT)/pool.h5 output_dir=$(OUT)/run

# The parts of a job that is split: OUT/NAME.00001-of-00004.h5 and so on.  With -j they run in parallel, each with one
# thread.
COUNT   := $(shell printf %05d $(SHARDS))
parts    = $(foreach i,$(shell seq -f %05.0f $(SHARDS)),$(OUT)/$(1).$(i)-of-$(COUNT).h5)
ONE_EACH = $(if $(findstring -j,$(MAKEFLAGS)),-j 1)

# What methods read of the pool, where a method asks for it: in parts, and as the set of all parts.
MODEL ?= $(WARM)# of embeddings: or a better embedder
GRAD   = df-grad -m $(WARM) --project $(DIM)
EMBED  = df-embed -m $(MODEL)

PROJECTIONS = $(call parts,pool.proj)
EMBEDDINGS  = $(call parts,pool.emb)
LOSSES      = $(call parts,pool.loss)
set         = '$(OUT)/$(1).*-of-$(COUNT).h5'

.PHONY: all
all: $(OUT)/eval.txt

# A file that exists is complete: an interrupted make must not delete it.
.PRECIOUS: $(OUT)/pool.h5 $(OUT)/val.h5 $(READY) $(OUT)/index.h5 $(FINAL)/df_state.json \
	$(PROJECTIONS) $(EMBEDDINGS) $(OUT)/val.emb.h5 $(LOSSES)

# One command makes both files.  PACK_MORE: further options.
$(OUT)/pool.h5 $(OUT)/val.h5 &:
	@mkdir -p $(OUT)
	df-pack --dataset-dir '$(DATA)' --dataset '$(POOL)' --template '$(TEMPLATE)' --tokenizer '$(TOKENIZER)' \
	    --cutoff-len $(CUTOFF) --holdout '$(TARGET)' --holdout-output $(OUT)/val.h5 $(PACK_MORE) -o $(OUT)/pool.h5

$(PROJECTIONS): $(OUT)/pool.proj.%-of-$(COUNT).h5: $(READY) $(OUT)/pool.h5
	$(GRAD) --form adam --shard $*/$(SHARDS) $(ONE_EACH) $(OUT)/pool.h5 -o $(OUT)/pool.proj.h5

$(EMBEDDINGS): $(OUT)/pool.emb.%-of-$(COUNT).h5: $(READY) $(OUT)/pool.h5
	$(EMBED) --shard $*/$(SHARDS) $(ONE_EACH) $(OUT)/pool.h5 -o $(OUT)/pool.emb.h5

$(OUT)/val.emb.h5: $(READY) $(OUT)/val.h5
	$(EMBED) $(OUT)/val.h5 -o $@

$(LOSSES): $(OUT)/pool.loss.%-of-$(COUNT).h5: $(READY) $(OUT)/pool.h5
	df-grad -m $(WARM) --losses --shard $*/$(SHARDS) $(ONE_EACH) $(OUT)/pool.h5 -o $(OUT)/pool.loss.h5

$(READY): $(OUT)/pool.h5
	$(TRAIN) --until $(WARMUP)

# How the model is trained to the end: on the selection, unless a makefile says something else before it includes this.
FINISH_NEEDS ?= $(OUT)/index.h5
FINISH       ?= $(TRAIN) --index $(OUT)/index.h5

$(FINAL)/df_state.json: $(FINISH_NEEDS)
	$(FINISH) --until $(STEPS)

$(OUT)/eval.txt: $(FINAL)/df_state.json $(OUT)/val.h5
	df-eval -m $(FINAL) $(OUT)/val.h5 >$@.tmp
	mv $@.tmp $@
	cat $@
