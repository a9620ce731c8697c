# NICE as a makefile:
#
#   make -j -f pipelines/nice.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# The same steps, files and bytes as `nice.sh`, but answers and the gradients of the pool are computed in
# SHARDS parts, in parallel with -j.  Stop it at any time and run it again: finished files are
# kept, and unfinished jobs continue where they stopped.  `make -n` prints the commands.

DATA      ?= $(error set DATA to the folder of dataset_info.json)
POOL      ?= $(error set POOL to the datasets to choose from, comma-separated)
TARGET    ?= $(error set TARGET to NAME=N: hold N rows of dataset NAME out as the target)
CONFIG    ?= configs/tiny-sft.yaml
TOKENIZER ?= bytes
TEMPLATE  ?= alpaca
CUTOFF    ?= 512
OUT       ?= nice# everything goes here
WARMUP    ?= 100# steps before the selection
STEPS     ?= 200# steps in total
SELECT    ?= 400# rows to select
DIM       ?= 2048# dimensions of the projection
SHARDS    ?= 4
SAMPLES     ?= 20# answers to each prompt
TEMPERATURE ?= 1# of their draws
MAX_TOKENS  ?= 128# most tokens of an answer
POLICY      ?= vanilla# which answers count (df-grad --policy)
# Rewards: exact answers, or a command that reads df-sample's JSON lines, or the directory of a reward model.
MATCH       ?= strip
REWARD      ?=
JUDGE       ?=

# A checkpoint's directory appears complete or not at all; make looks at one file in it.
WARM   = $(OUT)/run/checkpoint-$(WARMUP)
FINAL  = $(OUT)/run/checkpoint-$(STEPS)
COUNT := $(shell printf %05d $(SHARDS))
SHARD := $(shell seq -f %05.0f $(SHARDS))
PARTS := $(foreach i,$(SHARD),$(OUT)/pool.proj.$(i)-of-$(COUNT).h5)
DRAWS := $(foreach i,$(SHARD),$(OUT)/draws.$(i)-of-$(COUNT).h5)
LINES := $(DRAWS:.h5=.jsonl)

TRAIN = df-train $(CONFIG) tokenized_path=$(OUT)/pool.h5 output_dir=$(OUT)/run
GRAD  = df-grad -m $(WARM) --project $(DIM)
ONE   = $(if $(findstring -j,$(MAKEFLAGS)),-j 1)# with -j, the parts run in parallel, each with one thread

.PHONY: all
all: $(OUT)/eval.txt

# A file that exists is complete: an interrupted make must not delete it.
.PRECIOUS: $(OUT)/pool.h5 $(OUT)/val.h5 $(WARM)/df_state.json $(DRAWS) $(LINES) $(OUT)/draws.jsonl $(OUT)/rewards \
	$(PARTS) $(OUT)/val.proj.h5 $(OUT)/index.h5 $(FINAL)/df_state.json

# One command makes both files.
$(OUT)/pool.h5 $(OUT)/val.h5 &:
	@mkdir -p $(OUT)
	df-pack --dataset-dir '$(DATA)' --dataset '$(POOL)' --template '$(TEMPLATE)' --tokenizer '$(TOKENIZER)' \
	    --cutoff-len $(CUTOFF) --holdout '$(TARGET)' --holdout-output $(OUT)/val.h5 -o $(OUT)/pool.h5

$(WARM)/df_state.json: $(OUT)/pool.h5
	$(TRAIN) --until $(WARMUP)

# Answers: tokens and lines of a part come from one command.  The lines appear first.
$(DRAWS): $(OUT)/draws.%-of-$(COUNT).h5: $(WARM)/df_state.json $(OUT)/val.h5
	df-sample -m $(WARM) $(OUT)/val.h5 -n $(SAMPLES) --temperature $(TEMPERATURE) --top-k 50 --top-p 0.95 \
	    --max-new-tokens $(MAX_TOKENS) --shard $*/$(SHARDS) $(ONE) -o $(OUT)/draws.h5 --json $(OUT)/draws.jsonl

$(OUT)/draws.jsonl: $(DRAWS)
	cat $(LINES) >$@.tmp
	mv $@.tmp $@

$(OUT)/rewards: $(OUT)/draws.jsonl
ifneq ($(JUDGE),)
	df-eval -m '$(JUDGE)' '$(OUT)/draws.*-of-$(COUNT).h5' -o $@.tmp
else ifneq ($(REWARD),)
	( $(REWARD) ) <$(OUT)/draws.jsonl >$@.tmp
else
	df-eval --completions $(OUT)/draws.jsonl --match $(MATCH) --details $@.tmp
endif
	mv $@.tmp $@

$(PARTS): $(OUT)/pool.proj.%-of-$(COUNT).h5: $(WARM)/df_state.json $(OUT)/pool.h5
	$(GRAD) --form adam --shard $*/$(SHARDS) $(ONE) $(OUT)/pool.h5 -o $(OUT)/pool.proj.h5

$(OUT)/val.proj.h5: $(WARM)/df_state.json $(DRAWS) $(OUT)/rewards
	$(GRAD) --rewards $(OUT)/rewards --policy $(POLICY) '$(OUT)/draws.*-of-$(COUNT).h5' -o $@

$(OUT)/index.h5: $(PARTS) $(OUT)/val.proj.h5
	df-score nice --train '$(OUT)/pool.proj.*-of-$(COUNT).h5' --val $(OUT)/val.proj.h5 -n $(SELECT) -o $@

$(FINAL)/df_state.json: $(OUT)/index.h5
	$(TRAIN) --index $(OUT)/index.h5 --until $(STEPS)

$(OUT)/eval.txt: $(FINAL)/df_state.json $(OUT)/val.h5
	df-eval -m $(FINAL) $(OUT)/val.h5 >$@.tmp
	mv $@.tmp $@
	cat $@
