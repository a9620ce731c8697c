/* moments.h - an optimiser's moments beside a checkpoint. */
#ifndef DF_MODEL_MOMENTS_H
#define DF_MODEL_MOMENTS_H

#include <stdint.h>

#include "backend/backend.h"
#include "base/err.h"

struct df_model;

/*
 * optimizer.safetensors, which df-train writes: exp_avg.<name> and exp_avg_sq.<name> for every row of
 * `train`; metadata step, beta1, beta2, eps.  Or, where it is absent, what torch.save() wrote of an Adam's state dict:
 * transformers' optimizer.pt, or optimizer.bin.  Any directory without them is
 * DF_ENOINPUT with what to do; one whose names or shapes are not those of `train`
 * is DF_EFORMAT that names the first.
 */
struct df_moments {
	struct df_tensor m, v; /* [1, train numel] */
	double beta1, beta2, eps;
	uint64_t step;      /* of the parameter with the most steps */
	uint64_t n_without; /* rows of `train` that the file has no moments of: zeros; they never had a gradient */
};
int df_moments_init(struct df_moments *o, struct df_model *m, struct df_err *err) DF_MUST_CHECK; /* zeros */
int df_moments_load(struct df_moments *o, struct df_model *m, const char *dir, struct df_err *err) DF_MUST_CHECK;
int df_moments_save(const struct df_moments *o, struct df_model *m, const char *dir, struct df_err *err) DF_MUST_CHECK;
void df_moments_release(struct df_moments *o, struct df_model *m);

#endif
