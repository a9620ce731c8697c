# Every method on the same pools: which rows each chooses, what a model learns from them, and what choosing costs.
#
#   make -j2 -f pipelines/compare.mk [SCENES="skills bilingual found"] [SEEDS="1 2 3"] [OUT=compare]
#
# A scene is a pool with a known right answer (compare/data.sh):
#
#   skills     the demo's target skill among five others, with near-duplicates, wrong answers and another language
#   bilingual  English and Chinese instructions, the target is Chinese; needs DATA, a folder with both datasets
#   found      texts of this machine: Python's library, C headers, manual pages; the target is Python
#
# For each scene and seed a tiny Llama is trained for WARMUP steps on the whole pool.  Then each method chooses rows with
# a tenth of the pool's tokens, and training goes on with them to STEPS: the same number of steps, of rows of about the
# same length, so about the same number of training tokens for all (the table has them).  "full" trains on the whole
# pool, "random" on a tenth of it.  A method named NAME+ chooses again in each of WINDOWS windows, with the model as it
# is then.  Tables: OUT/table.txt; pictures: OUT/SCENE.svg.
#
# Stop it at any time and run it again: finished files are kept.

SCENES  ?= skills bilingual found
SEEDS   ?= 1 2 3
OUT     ?= compare# everything goes here
DATA    ?= data# for bilingual: dataset_info.json with alpaca_en_demo and alpaca_zh_demo
WINDOWS ?= 3
DIM     ?= 1024# dimensions of the projections

STATIC  = full random loss delta-loss ppl ifd less cluster-less nice near tsds tsds-c0.1 rds dsir dsir-l0.01 semdedup diverse
DYNAMIC = random+ loss+ delta-loss+ less+
# Answers can be right or wrong only where there is one; texts without a prompt have no IFD.
METHODS_skills    = $(STATIC) $(DYNAMIC)
METHODS_bilingual = $(filter-out nice,$(STATIC) $(DYNAMIC))
METHODS_found     = $(filter-out nice ifd,$(STATIC) $(DYNAMIC))

HERE := $(dir $(lastword $(MAKEFILE_LIST)))compare

ifndef SCENE # ---- all scenes and seeds, and the tables

.PHONY: all
all: $(foreach s,$(SCENES),$(OUT)/$(s)/results.txt)
	$(HERE)/table.sh $(OUT) $(SCENES) | tee $(OUT)/table.txt.tmp
	mv $(OUT)/table.txt.tmp $(OUT)/table.txt

.SECONDEXPANSION:
$(OUT)/%/results.txt: $$(foreach seed,$(SEEDS),$(OUT)/%/$$(seed)/results.txt)
	cat $^ >$@.tmp
	mv $@.tmp $@

.PHONY: run
run:

define seed_of_scene
$(OUT)/$(1)/$(2)/results.txt: run
	@$$(MAKE) --no-print-directory -f $$(firstword $$(MAKEFILE_LIST)) SCENE=$(1) SEED=$(2)
endef
$(foreach s,$(SCENES),$(foreach seed,$(SEEDS),$(eval $(call seed_of_scene,$(s),$(seed)))))

else # ---- one scene with one seed

B      := $(OUT)/$(SCENE)/$(SEED)# what all methods share
EARLY  := 60
WARMUP := 100
STEPS  := $(if $(filter skills,$(SCENE)),400,250)
CONFIG := demo/train.yaml
ifneq ($(SCENE),skills)
CONFIG += model_name_or_path=pipelines/compare/model per_device_train_batch_size=8 learning_rate=2e-3
endif
METHODS := $(METHODS_$(SCENE))

# One selection: with the model of CHECKPOINT, as window number WINDOW, in D.
CHECKPOINT := $(B)/warm/checkpoint-$(WARMUP)
WINDOW     := 1
D          := $(B)

Q     := -q -j 1
POOL  := $(B)/pool.h5
VAL   := $(B)/val.h5
TRAIN  = df-train $(CONFIG) $(Q) seed=$(SEED) tokenized_path=$(POOL) eval_tokenized_path=$(B)/test.h5 max_steps=$(STEPS)
RUN   := $(HERE)/timed.sh

.PHONY: all
all: $(B)/results.txt

# A file that exists is complete: an interrupted make must not delete it.
.PRECIOUS: $(B)/% $(D)/%

$(B)/results.txt: $(METHODS:%=$(B)/%.result)
	cat $^ >$@.tmp
	mv $@.tmp $@

# ---- the pool, and a model that has learnt a little

$(POOL) $(VAL) $(B)/alone.h5 $(B)/test.h5 $(B)/budget &:
	@mkdir -p $(B)
	$(HERE)/data.sh $(SCENE) $(SEED) $(B) $(DATA)

$(B)/warm/done: $(POOL)
	$(TRAIN) output_dir=$(B)/warm --until $(EARLY)
	$(TRAIN) output_dir=$(B)/warm --until $(WARMUP)
	touch $@

# ---- what the methods read: each file notes how long it took, in FILE.seconds

GRAD := df-grad $(Q) -m $(CHECKPOINT)

$(D)/losses.h5 $(D)/losses.early.h5 $(D)/losses.alone.h5 $(D)/pool.proj.h5 $(D)/val.proj.h5 $(D)/pool.emb.h5 $(D)/val.emb.h5: $(B)/warm/done

$(D)/losses.h5:
	@mkdir -p $(D)
	$(RUN) $@ $(GRAD) --losses $(POOL) -o $@
$(B)/losses.early.h5:
	$(RUN) $@ df-grad $(Q) -m $(B)/warm/checkpoint-$(EARLY) --losses $(POOL) -o $@
$(D)/losses.alone.h5:
	$(RUN) $@ $(GRAD) --losses $(B)/alone.h5 -o $@
$(D)/pool.proj.h5:
	@mkdir -p $(D)
	$(RUN) $@ $(GRAD) --form adam --project $(DIM) $(POOL) -o $@
$(D)/val.proj.h5:
	@mkdir -p $(D)
	$(RUN) $@ $(GRAD) --form sgd --project $(DIM) $(VAL) -o $@
$(D)/%.emb.h5:
	$(RUN) $@ df-embed $(Q) -m $(CHECKPOINT) --pooling position $(B)/$*.h5 -o $@

$(D)/clusters.h5 $(D)/reps.h5 &: $(D)/pool.emb.h5
	$(RUN) $(D)/clusters.h5 df-score cluster $(Q) --train $(D)/pool.emb.h5 --cluster-size 32 --per-cluster 4 \
	    --scores-output $(D)/clusters.h5 -o $(D)/reps.h5
$(D)/reps.proj.h5: $(D)/reps.h5
	$(RUN) $@ $(GRAD) --form adam --project $(DIM) --index $(D)/reps.h5 $(POOL) -o $@
$(D)/less.scores.h5: $(D)/pool.proj.h5 $(D)/val.proj.h5
	$(RUN) $@ df-score less $(Q) --train $(D)/pool.proj.h5 --val $(D)/val.proj.h5 --scores-output $@

# Eight answers of the model to each prompt of the target, and their rewards.
$(D)/draws.h5: $(B)/warm/done
	$(RUN) $@ df-sample $(Q) -m $(CHECKPOINT) $(VAL) -n 8 --temperature 1 --max-new-tokens 16 --seed $(SEED) -o $@ --json $(D)/draws.jsonl
	$(HERE)/judge.sh <$(D)/draws.jsonl >$(D)/rewards.jsonl
$(D)/val.policy.h5: $(D)/draws.h5
	$(RUN) $@ $(GRAD) --rewards $(D)/rewards.jsonl --project $(DIM) $(D)/draws.h5 -o $@

# ---- the methods: what each needs, and its command

NEEDS_loss         = losses.h5
NEEDS_delta-loss   = losses.h5
NEEDS_ppl          = losses.h5
NEEDS_ifd          = losses.h5 losses.alone.h5
NEEDS_less         = pool.proj.h5 val.proj.h5
NEEDS_near         = pool.emb.h5 val.emb.h5
NEEDS_tsds         = pool.emb.h5 val.emb.h5
NEEDS_tsds-c0.1    = pool.emb.h5 val.emb.h5
NEEDS_rds          = pool.emb.h5 val.emb.h5
NEEDS_cluster-less = clusters.h5 reps.proj.h5 val.proj.h5
NEEDS_nice         = pool.proj.h5 draws.h5 val.policy.h5
NEEDS_semdedup     = pool.emb.h5
NEEDS_diverse      = pool.emb.h5 pool.proj.h5 val.proj.h5 less.scores.h5

SCORE_random       = random --train $(POOL)
SCORE_loss         = loss --train $(D)/losses.h5
SCORE_delta-loss   = delta-loss --train $(D)/losses.h5 --reference $(B)/losses.early.h5 --ordinal $(WINDOW) --update-times $(WINDOWS)
SCORE_ppl          = ppl --train $(D)/losses.h5
SCORE_ifd          = ifd --train $(D)/losses.h5 --no-prompt $(D)/losses.alone.h5 --short truncate
SCORE_less         = less --train $(D)/pool.proj.h5 --val $(D)/val.proj.h5
SCORE_near         = near --train $(D)/pool.emb.h5 --query $(D)/val.emb.h5
SCORE_tsds         = tsds --train $(D)/pool.emb.h5 --query $(D)/val.emb.h5
SCORE_rds          = rds --train $(D)/pool.emb.h5 --query $(D)/val.emb.h5
SCORE_cluster-less = cluster-less --train $(D)/clusters.h5 --reps $(D)/reps.proj.h5 --val $(D)/val.proj.h5
SCORE_nice         = nice --train $(D)/pool.proj.h5 --val $(D)/val.policy.h5
SCORE_dsir         = dsir --train $(POOL) --target $(VAL) --min-length 1
SCORE_tsds-c0.1    = $(SCORE_tsds) --c 0.1
SCORE_dsir-l0.01   = $(SCORE_dsir) --laplace 0.01
SCORE_semdedup     = semdedup --train $(D)/pool.emb.h5 --eps 0.001
SCORE_diverse      = diverse --train $(D)/pool.emb.h5 --scores $(D)/less.scores.h5 --threshold 0.999

define selection
$(D)/$(1).index.h5: $(POOL) $(NEEDS_$(1):%=$(D)/%)
	@mkdir -p $(D)
	$(RUN) $$@ df-score $(SCORE_$(1)) $(Q) -n $$$$(cat $(B)/budget)tok --tokens $(POOL) --seed $(SEED) --step $(WINDOW) -o $$@
endef
$(foreach m,$(filter-out full %+,$(METHODS)),$(eval $(call selection,$(m))))

$(D)/delta-loss.index.h5: $(B)/losses.early.h5

# ---- training with a selection, and what came of it

RESULT = $(HERE)/result.sh $(SCENE) $(SEED) $(B)

$(B)/full.result: $(B)/warm/done
	$(TRAIN) output_dir=$(B)/run.full resume_from_checkpoint=$(CHECKPOINT)
	$(RESULT) full $(POOL) >$@.tmp
	mv $@.tmp $@

$(B)/%.result: $(B)/%.index.h5 $(B)/warm/done
	$(TRAIN) output_dir=$(B)/run.$* resume_from_checkpoint=$(CHECKPOINT) --index $<
	$(RESULT) $* $< '$(NEEDS_$*:%=$(B)/%)' >$@.tmp
	mv $@.tmp $@

# In each window: choose with the model of its beginning, train with the choice.
$(B)/%+.result: $(B)/warm/done
	$(HERE)/windows.sh $(B) $* $(WARMUP) $(STEPS) $(WINDOWS) "$(MAKE) -f $(firstword $(MAKEFILE_LIST)) SCENE=$(SCENE) SEED=$(SEED)" $(TRAIN)
	$(RESULT) $*+ "$$(echo $(B)/$*+.*/$*.index.h5)" "$$(ls -d $(B)/$*+.*/*.proj.h5 $(B)/$*+.*/losses.h5 2>/dev/null | tr '\n' ' ')" >$@.tmp
	mv $@.tmp $@

endif
