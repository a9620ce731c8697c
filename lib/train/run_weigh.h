/*
 * run_weigh.h - weights of samples in the training loop: train_type: dynamic_weight.
 *
 *     before a step:  from step W+1 on the stepper has a weigher; the anchors are read when it is time
 *     in the step:    losses of a group, and hidden states where the method looks at them -> weights (weigh/weigh.h)
 *     at a line of the log: the weights since the line before, as a histogram, to weight_log.jsonl
 *
 * All that a step depends on is in the state: the anchors, which are read from a model that is gone later, and what was
 * counted since the last line of the log.
 */
#ifndef DF_TRAIN_RUN_WEIGH_H
#define DF_TRAIN_RUN_WEIGH_H

#include "train/run_dynamic.h"

extern const struct df_run_kind df_run_kind_weigh;

#endif
