/*
 * dft.h - dynamic fine-tuning (Wu et al. 2025), LLaMA-Factory's use_dft_loss: the loss of a target is weighted with
 * its probability: -p log p instead of -log p, where p is a constant for the gradient.  So improbable targets do
 * not dominate the gradient.
 */
#ifndef DF_WEIGH_DFT_H
#define DF_WEIGH_DFT_H

#include "model/model.h"

/* weight[i] = exp(-nll[i]), of any batch.  ctx is not used. */
df_weigh_fn df_dft_weigh;

#endif
