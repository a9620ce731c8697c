/*
 * grad_priv.h - the inside of a job; seen in lib/grad only.
 */
#ifndef DF_GRAD_PRIV_H
#define DF_GRAD_PRIV_H

#include "grad/grad.h"

struct df_grad {
	struct df_grad_opts o;
	struct df_backend *be; /* borrowed */
	struct df_model *model;
	struct df_moments moments; /* for the Adam form; else NONE */
	size_t p;                  /* coordinates */
	char checkpoint[DF_DIGEST_HEX], manifest[DF_DIGEST_HEX];
};

#endif
