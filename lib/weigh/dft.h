/*
 * dft.h - dynamic fine-tuning (Wu et al. 2025), LLaMA-Factory's use_dft_loss: a target's loss counts as much as the
 * target is probable, -p log p in place of -log p, with p a constant to the gradient.  So what the model holds for
 * unlikely does not rule the gradient.
 */
#ifndef DF_WEIGH_DFT_H
#define DF_WEIGH_DFT_H

#include "model/model.h"

/* For df_work_weigh(): weight[i] = exp(-nll[i]).  ctx is not used. */
df_weigh_fn df_dft_weigh;

#endif
