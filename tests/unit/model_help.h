/*
 * model_help.h - what the model's tests share: the backend under test, the
 * golden cases of tests/golden/model, comparisons by name.
 */
#ifndef DF_TEST_MODEL_HELP_H
#define DF_TEST_MODEL_HELP_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "model/model.h"
#include "rows/rows.h"
#include "safetensors/safetensors.h"

/* The backend of DF_TEST_DEVICE (default cpu), opened once; with DF_TEST_COMPUTE=bf16 models compute in bf16 on it. */
struct df_backend *mh_backend(void);
/* A bound on a difference from float32's numbers: f32, or, where models compute in bf16, bf16. */
double mh_bound(double f32, double bf16);
/* First line of a test of differences that bf16 rounds away. */
#define mh_float32_only()                                                            \
	do {                                                                         \
		if (df_backend_compute(mh_backend()) != DF_F32) {                    \
			print_message("# skip: smaller than the roundings of bf16\n"); \
			skip();                                                      \
		}                                                                    \
	} while (0)
/* tests/golden/model/CASE[/FILE]; free() it. */
char *mh_path(const char *name, const char *file);
/* A fresh scratch directory, removed by mh_cleanup(); borrowed. */
const char *mh_scratch(void);
int mh_cleanup(void **state);

/* rc must be 0; prints the error. */
#define mh_ok(call)                                                          \
	do {                                                                 \
		struct df_err err_ = DF_ERR_INIT, *err = &err_;              \
		if ((call) != DF_OK)                                         \
			fail_msg("%s:%d: %s", __FILE__, __LINE__, err->msg); \
	} while (0)
/* The call (with err) fails with this code and a message that contains every word of a '|' list. */
#define mh_refused(call, code, words)                           \
	do {                                                    \
		struct df_err err_ = DF_ERR_INIT, *err = &err_; \
		int rc_ = (call);                               \
		mh_check_refused(rc_, err, code, words);        \
	} while (0)
void mh_check_refused(int rc, const struct df_err *err, int code, const char *words);

/*
 * Write scratch/NAME/config.json: a llama of these sizes, with the members `more` (or NULL) in
 * front. Borrowed path.
 */
const char *mh_config(
    const char *name, size_t vocab, size_t d, size_t ff, size_t layers, size_t heads, size_t kv, const char *more);
/* All weights of base, row after row; keep()ed host array. */
const float *mh_weights(struct df_model *m);
/* The values of the trainable parameters; the caller frees them. */
float *mh_train_weights(struct df_model *m);
/* The trainable gradient of a batch with each sample scaled; keep()ed host array. */
const float *mh_batch_grad(struct df_model *m, struct df_work *w, const struct df_tokens *b, const float *scale);

/* A batch in memory of its own. */
struct mh_batch {
	struct df_tokens b;
	uint64_t *offsets;
	uint32_t *ids;
	uint8_t *mask;
};
/* The batch of ref.safetensors or train.safetensors; samples [first, first+n), all when n == 0. */
void mh_batch_load(struct mh_batch *m, const struct df_st *st, size_t first, size_t n);
/* n samples with the given lengths, ids and masks from a seed; every sample of 2 or more tokens has a target. */
void mh_batch_random(struct mh_batch *m, const size_t *lengths, size_t n, size_t n_vocab, uint64_t seed);
void mh_batch_release(struct mh_batch *m);
/* The first n samples of a batch as rows, with ids from 100 on; domain [n] of n_domains called a, b, .. */
void mh_rows(struct df_rows *r, const struct mh_batch *m, size_t n, const uint16_t *domain, int n_domains);

/* A float tensor of st; borrowed from a fresh allocation that mh_cleanup() frees. */
const float *mh_floats(const struct df_st *st, const char *fmt, ...) DF_PRINTF(2, 3);

/* max |a - b| / (max |b| + tiny) over n; NaN anywhere gives infinity. */
double mh_rel_diff(const float *a, const float *b, size_t n);

/*
 * n floats that an exact backend gives the same bits in whatever else is in the call: the same bits there; on another
 * within rounding, 1e-5 of the largest.
 */
bool mh_same(const float *a, const float *b, size_t n);
#define mh_assert_same(a, b, n)                                                                                      \
	do {                                                                                                         \
		if (!mh_same(a, b, n))                                                                               \
			fail_msg("%s:%d: %s is not %s: max difference %.3g", __FILE__, __LINE__, #a, #b,             \
			    mh_rel_diff(a, b, n));                                                                   \
	} while (0)

/* Per-sample gradients gathered whole: g [n, numel]. Also checks order and coverage of the blocks. */
struct mh_grads {
	struct df_model *m;
	struct df_work *w;
	float *g;
	size_t n, numel, next;
	size_t blocks;
};
void mh_sample_grads(struct mh_grads *out, struct df_model *m, struct df_work *w, const struct df_tokens *b,
    const struct df_losses *losses);

#endif
