/*
 * dynamic.h - what a checkpoint keeps of a dynamic run (df_train_state.dynamic; "dynamic" in df_state.json): enough to
 * be in the same window again, to the bit.
 */
#ifndef DF_TRAIN_DYNAMIC_H
#define DF_TRAIN_DYNAMIC_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"

struct df_dynamic {
	char *method;       /* NULL: not a dynamic run; nothing below is set */
	uint64_t event_step; /* where the window of the last step began */
	uint64_t flex_epoch;
	uint64_t *cursor;    /* [n_domains] with these ... */
	double *proportions; /* [n_domains] ... and these */
	size_t n_domains;
	double *number;      /* [n_numbers] of the method */
	size_t n_numbers;
	/* What the run was told, so that a changed file is noticed; each may be NULL: not known. */
	char *params;        /* of the component, a JSON object of texts */
	double *initial;     /* [n_domains] init_mixture_proportions */
	char *reference;     /* "losses ID" or "model ID": DoReMi's */
};

/* Allocate the arrays; what was there is released.  After an error, too, it is for df_dynamic_release(). */
int df_dynamic_init(struct df_dynamic *d, const char *method, size_t n_domains, size_t n_numbers,
    struct df_err *err) DF_MUST_CHECK;
void df_dynamic_release(struct df_dynamic *d);
/* Append "dynamic": {..} as JSON; nothing where method is NULL.  Numbers read back as they were. */
void df_dynamic_put(const struct df_dynamic *d, struct df_buf *out);
/* Add a parameter to b, which is empty at first; then *out = the object for df_dynamic.params.  b is released. */
void df_dynamic_add_param(struct df_buf *b, const char *name, const char *value);
int df_dynamic_take_params(struct df_buf *b, char **out, struct df_err *err) DF_MUST_CHECK;
/* v: the value of "dynamic", or NULL.  DF_EFORMAT. */
int df_dynamic_get(struct df_dynamic *d, const struct df_json_value *v, struct df_err *err) DF_MUST_CHECK;

#endif
