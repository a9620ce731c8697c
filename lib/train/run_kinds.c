/*
 * run_kinds.c - the kinds of dynamic runs, by train_type.
 */
#include "train/run_dynamic.h"
#include "train/run_mix.h"
#include "train/run_select.h"
#include "train/run_weigh.h"

const struct df_run_kind *const df_run_kinds[] = { [DF_TRAIN_STATIC] = NULL,
	[DF_TRAIN_SELECT] = &df_run_kind_select,
	[DF_TRAIN_MIX] = &df_run_kind_mix,
	[DF_TRAIN_WEIGHT] = &df_run_kind_weigh };
