# Weights of samples as a makefile:
#
#   make -f pipelines/adapt.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# The same steps, files and bytes as `adapt.sh`.  common.mk has the settings, and the rules that all methods share.
METHOD ?= adapt# or loss, joint_update_aware
PARAMS ?=# of the method, as component_params.NAME=VALUE

# Plain steps up to WARMUP; from then on weights.  The target's rows are the anchors that samples are compared with.
FINISH_NEEDS = $(OUT)/pool.h5 $(OUT)/val.h5
FINISH       = $(TRAIN) eval_tokenized_path=$(OUT)/val.h5 train_type=dynamic_weight \
	component_name=$(METHOD) $(PARAMS) warmup_step=$(WARMUP) train_step=$(STEPS)

include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

all: $(OUT)/run.svg
$(OUT)/run.svg: $(FINAL)/df_state.json
	df-show --plot $@ $(OUT)/run
