/*
 * cases.h - the operations of the backend at many shapes, as one table.
 *
 * A case makes its inputs from its own address in Philox, runs one operation
 * on windows of larger tensors, and keeps every output by name.  Tests run the
 * table on two backends, or twice on one, and compare.  To cover a new operation or
 * shape, add a line to the table in cases.c.
 */
#ifndef DF_TESTS_OPS_CASES_H
#define DF_TESTS_OPS_CASES_H

#include "backend/backend.h"

/* A call that must succeed; `err` in it is its error. */
#define OK(call)                                               \
	do {                                                   \
		struct df_err ok_err = DF_ERR_INIT;            \
		struct df_err *err = &ok_err;                  \
		if ((call) != DF_OK)                           \
			fail_msg("%s: %s", #call, ok_err.msg); \
	} while (0)

#define RESULT_MAX 6

struct result {
	const char *name;
	size_t n;
	double *v; /* exact: every output type fits a double */
};
struct results {
	size_t n;
	struct result out[RESULT_MAX];
};

/* Activations are float32; or bf16; or float32 with the numbers that bf16 would have. */
enum op_mode { OP_F32, OP_BF16, OP_ROUNDED };

struct op_case;
struct op_run {
	struct df_backend *be;
	enum op_mode mode;
	const struct op_case *c;
	struct results *res;
	uint32_t n_made; /* addresses the next input's numbers */
	bool aligned;    /* windows begin at multiples of 16 bytes, if the shape allows it; else next to one */
};
struct op_case {
	const char *name;
	void (*run)(struct op_run *r, const size_t *shape);
	size_t shape[8];
	double tol; /* against the reference: largest difference over the reference's largest value */
	double tol_bf16; /* OP_BF16 against the reference in OP_ROUNDED; 0: the operation has no activations */
};

extern const struct op_case op_cases[];
extern const size_t n_op_cases;

/* Run one case on a backend; every call inside must succeed (cmocka assertions).  results_release() frees. */
void op_case_run(const struct op_case *c, struct df_backend *be, struct results *res);
void op_case_run_in(const struct op_case *c, struct df_backend *be, enum op_mode mode, struct results *res);
void results_release(struct results *res);

/*
 * Largest |a - b| over the outputs, each relative to b's largest value there (at least 1e-2 of its largest anywhere);
 * infinite when shapes differ or anything is not finite.
 */
double results_diff(const struct results *a, const struct results *b, const char **worst);
/* The name of the first output whose values are not the same bits, or NULL. */
const char *results_differ(const struct results *a, const struct results *b);

/* Open the backend that DF_TEST_DEVICE names (default cpu), or `device`. */
struct df_backend *test_backend(const char *device, struct df_pool *pool);

/* n numbers uniform in [-scale, scale), by address. free() it. */
float *test_numbers(uint32_t stream, size_t n, float scale);
/* A dense tensor of those numbers (of `v`, when not NULL). */
struct df_tensor test_tensor(struct df_backend *be, size_t rows, size_t cols, const float *v);
/* A tensor [1,n] of any type with these elements (whatever is there, when v is NULL), in a window of a larger one. */
struct df_tensor test_row(struct df_backend *be, enum df_dtype type, size_t n, const void *v);
struct df_tensor test_indices(struct df_backend *be, const uint32_t *v, size_t n); /* of u32 */
/* A dense tensor of indices; those of v, when not NULL. */
struct df_tensor test_u32(struct df_backend *be, size_t rows, size_t cols, const uint32_t *v);
/* All of t, f32 or bf16, in a new host array.  free() it. */
float *test_values(struct df_backend *be, struct df_tensor t);

#endif
