/* run_select.h - a run on selected rows: train_type: dynamic_select (run_dynamic.h). */
#ifndef DF_TRAIN_RUN_SELECT_H
#define DF_TRAIN_RUN_SELECT_H

#include "train/run_dynamic.h"

extern const struct df_run_kind df_run_kind_select;

#endif
