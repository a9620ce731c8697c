# DSIR as a makefile:
#
#   make -f pipelines/dsir.mk DATA=mydata POOL=alpaca_en,alpaca_zh TARGET=alpaca_zh=50
#
# The same steps, files and bytes as `dsir.sh`.  common.mk has the settings, and the rules that all methods share.
include $(dir $(lastword $(MAKEFILE_LIST)))common.mk

MIN_LENGTH ?= 100# rows of fewer words are left out

$(OUT)/index.h5: $(OUT)/pool.h5 $(OUT)/val.h5
	df-score dsir --train $(OUT)/pool.h5 --target $(OUT)/val.h5 --tokenizer '$(TOKENIZER)' --min-length $(MIN_LENGTH) \
	    -n $(SELECT) -o $@

$(FINAL)/df_state.json: $(READY)
