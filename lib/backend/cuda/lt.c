/*
 * lt.c - cuBLASLt, opened when it is first needed: it has 500 MB, and most machines do not have it.
 *
 * What is used of it is declared here, so that it need not be there when this is built (cublasLt.h; tests/cmd/cuda.t
 * compares the two).
 */
#include "backend/cuda/blas.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <glob.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/cuda/lt.h"
#include "base/log.h"
#include "base/mem.h"

/* ---- the library ---------------------------------------------------------------------------------------------- */

/* Its functions, by their names without "cublasLt". */
static struct {
	void *library;
	int (*Create)(void **handle);
	int (*Destroy)(void *handle);
	const char *(*GetStatusString)(int status);
	size_t (*GetVersion)(void);
	int (*MatmulDescCreate)(void **desc, int compute, int scale);
	int (*MatmulDescSetAttribute)(void *desc, int attribute, const void *value, size_t size);
	int (*MatmulDescDestroy)(void *desc);
	int (*MatrixLayoutCreate)(void **layout, int type, uint64_t rows, uint64_t cols, int64_t ld);
	int (*MatrixLayoutDestroy)(void *layout);
	int (*MatmulPreferenceCreate)(void **preference);
	int (*MatmulPreferenceSetAttribute)(void *preference, int attribute, const void *value, size_t size);
	int (*MatmulPreferenceDestroy)(void *preference);
	int (*MatmulAlgoGetHeuristic)(void *handle, void *desc, void *a, void *b, void *c, void *d, void *preference,
	    int wanted, struct lt_found *found, int *n);
	int (*MatmulAlgoConfigGetAttribute)(
	    const struct lt_algorithm *a, int attribute, void *value, size_t size, size_t *written);
	int (*Matmul)(void *handle, void *desc, const void *alpha, const void *a, void *layout_a, const void *b,
	    void *layout_b, const void *beta, const void *c, void *layout_c, void *d, void *layout_d,
	    const struct lt_algorithm *algorithm, void *workspace, size_t workspace_bytes, cudaStream_t s);
} lt;

#define FUNCTIONS(f)                                                                                        \
	f(Create) f(Destroy) f(GetStatusString) f(GetVersion) f(MatmulDescCreate) f(MatmulDescSetAttribute) \
	    f(MatmulDescDestroy) f(MatrixLayoutCreate) f(MatrixLayoutDestroy) f(MatmulPreferenceCreate)     \
		f(MatmulPreferenceSetAttribute) f(MatmulPreferenceDestroy) f(MatmulAlgoGetHeuristic)        \
		    f(MatmulAlgoConfigGetAttribute) f(Matmul)

static bool
find_functions(char *why, size_t size)
{
#define ONE(name) { "cublasLt" #name, &lt.name },
	const struct {
		const char *name;
		void *pointer;
	} wanted[] = { FUNCTIONS(ONE) };

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		void *f = dlsym(lt.library, wanted[i].name);

		if (!f) {
			snprintf(why, size, "the cuBLASLt that was found has no %s", wanted[i].name);
			return false;
		}
		memcpy(wanted[i].pointer, &f, sizeof(f));
	}
	return true;
}

#define STRING_(x) #x
#define STRING(x)  STRING_(x)
#if CUDART_VERSION >= 13000
#define MAJOR 13
#else
#define MAJOR 12
#endif
static const char name[] = "libcublasLt.so." STRING(MAJOR);

/* The first file that a pattern names, with a folder in front, can be opened. */
static void
try_pattern(const char *folder, const char *pattern)
{
	char full[4096];
	glob_t found;

	if (lt.library || !folder || !*folder)
		return;
	snprintf(full, sizeof(full), "%s/%s%s", folder, pattern, name);
	if (glob(full, 0, NULL, &found) != 0)
		return;
	for (size_t i = 0; i < found.gl_pathc && !lt.library; i++)
		lt.library = dlopen(found.gl_pathv[i], RTLD_NOW | RTLD_LOCAL);
	globfree(&found);
}

/* DF_CUBLAS names the library or its folder, or is "off"; else the system's, the toolkit's, or a Python environment's. */
static bool
open_library(char *why, size_t size)
{
	static const char *const wheels[] = { "lib/python3*/site-packages/nvidia/cu" STRING(MAJOR) "/lib/",
		"lib/python3*/site-packages/nvidia/cublas/lib/" };
	static const char *const environments[] = { "VIRTUAL_ENV", "CONDA_PREFIX" };
	const char *wish = getenv("DF_CUBLAS");

	if (wish && strcmp(wish, "off") == 0) {
		snprintf(why, size, "DF_CUBLAS=off");
		return false;
	}
	if (wish && *wish) {
		lt.library = dlopen(wish, RTLD_NOW | RTLD_LOCAL);
		try_pattern(wish, "");
		if (!lt.library)
			snprintf(why, size, "DF_CUBLAS=%s is not %s, nor a folder with it", wish, name);
		return lt.library;
	}
	lt.library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
	try_pattern(getenv("CUDA_HOME"), "lib*/");
	try_pattern("/usr/local/cuda", "lib*/");
	for (size_t e = 0; e < sizeof(environments) / sizeof(environments[0]); e++)
		for (size_t i = 0; i < sizeof(wheels) / sizeof(wheels[0]); i++)
			try_pattern(getenv(environments[e]), wheels[i]);
	if (!lt.library)
		snprintf(why, size, "there is no %s; name its folder in DF_CUBLAS (see df-devices(7))", name);
	return lt.library;
}

bool
blas_there(const struct rt_device *device, char *why, size_t size)
{
	*why = '\0';
	/* On others the library changes its ways with the number of rows; the own kernels are near it there. */
	if (device->major != 9 && device->major != 10)
		return false;
	if (!open_library(why, size) || !find_functions(why, size))
		return false;
	df_debug("cuda: products by cuBLASLt %zu", lt.GetVersion());
	return true;
}

/* ---- a lane's ------------------------------------------------------------------------------------------------- */

/* A shape of products, and the algorithm that it has. */
struct plan {
	struct {
		uint64_t rows64, n, k, lda, ldb, ldc; /* rows64: rows of c, by 64s */
		uint64_t bits;
	} key;
	struct lt_algorithm algorithm;
	size_t workspace;
};

struct lane {
	void *handle, *workspace;
	struct plan *plans;
	size_t n_plans, cap, last;
};

enum { WORKSPACE = 32 << 20 };

static int
check(int status, const char *what, struct df_err *err)
{
	return status == 0 ? DF_OK : df_fail(err, DF_EDEVICE, "cuBLASLt: %s: %s", what, lt.GetStatusString(status));
}

void
blas_free(void *blas)
{
	struct lane *l = blas;

	if (!l)
		return;
	if (l->handle)
		lt.Destroy(l->handle);
	if (l->workspace)
		rt_free(l->workspace);
	free(l->plans);
	free(l);
}

static int
lane_new(struct lane **out, struct df_err *err)
{
	struct lane *l = NULL;
	int rc;

	DF_TRY(df_alloc(&l, 1, sizeof(*l), "cuBLASLt", err));
	DF_TRY(check(lt.Create(&l->handle), "cublasLtCreate", err));
	*out = l;
	l = NULL;
out:
	blas_free(l);
	return rc;
}

/* ---- a product ------------------------------------------------------------------------------------------------ */

/*
 * The library's matrices are column-major, so c is c^T = op(b)^T op(a)^T to it: b is its first matrix, and the rows of
 * c are its columns, on whose number it lays no demand.
 */
struct call {
	void *desc, *a, *b, *c;
};

static void
call_release(struct call *c)
{
	if (c->desc)
		lt.MatmulDescDestroy(c->desc);
	if (c->a)
		lt.MatrixLayoutDestroy(c->a);
	if (c->b)
		lt.MatrixLayoutDestroy(c->b);
	if (c->c)
		lt.MatrixLayoutDestroy(c->c);
}

static int
set_transposed(void *desc, int attribute, bool transposed, struct df_err *err)
{
	const int32_t op = transposed ? LT_OP_T : LT_OP_N;

	return check(
	    lt.MatmulDescSetAttribute(desc, attribute, &op, sizeof(op)), "cublasLtMatmulDescSetAttribute", err);
}

/* A row-major matrix of rows x cols. */
static int
layout(void **out, int type, size_t rows, size_t cols, size_t ld, struct df_err *err)
{
	return check(lt.MatrixLayoutCreate(out, type, cols, rows, (int64_t)ld), "cublasLtMatrixLayoutCreate", err);
}

static int
call_make(struct call *c, const struct blas_product *p, size_t m, struct df_err *err)
{
	int rc;

	*c = (struct call){ 0 };
	DF_TRY(check(lt.MatmulDescCreate(&c->desc, LT_COMPUTE_32F, LT_R_32F), "cublasLtMatmulDescCreate", err));
	DF_TRY(set_transposed(c->desc, LT_DESC_TRANSA, p->tb, err));
	DF_TRY(set_transposed(c->desc, LT_DESC_TRANSB, p->ta, err));
	DF_TRY(layout(&c->b, LT_R_16BF, p->tb ? p->n : p->k, p->tb ? p->k : p->n, p->ldb, err));
	DF_TRY(layout(&c->a, LT_R_16BF, p->ta ? p->k : m, p->ta ? m : p->k, p->lda, err));
	DF_TRY(layout(&c->c, p->c_is_f32 ? LT_R_32F : LT_R_16BF, m, p->n, p->ldc, err));
out:
	return rc;
}

static int
set_preference(void *preference, int attribute, const void *value, size_t size, struct df_err *err)
{
	return check(lt.MatmulPreferenceSetAttribute(preference, attribute, value, size),
	    "cublasLtMatmulPreferenceSetAttribute", err);
}

/* What is chosen among: tensor cores, f32 sums, windows aligned to 16 bytes; split sums only if allowed. */
static int
preference_make(void **out, bool may_split, struct df_err *err)
{
	static const int alignments[] = { LT_PREF_ALIGNMENT_A, LT_PREF_ALIGNMENT_B, LT_PREF_ALIGNMENT_C,
		LT_PREF_ALIGNMENT_D };
	const uint64_t workspace = may_split ? WORKSPACE : 0, impl = LT_IMPL_HMMA | LT_IMPL_SUMS_32F | LT_IMPL_OF_16BF;
	const uint32_t reduction = may_split ? LT_REDUCTION_COMPUTE_TYPE : LT_REDUCTION_NONE, alignment = 16;
	int rc;

	DF_TRY(check(lt.MatmulPreferenceCreate(out), "cublasLtMatmulPreferenceCreate", err));
	DF_TRY(set_preference(*out, LT_PREF_WORKSPACE, &workspace, sizeof(workspace), err));
	DF_TRY(set_preference(*out, LT_PREF_REDUCTION_MASK, &reduction, sizeof(reduction), err));
	DF_TRY(set_preference(*out, LT_PREF_IMPL_MASK, &impl, sizeof(impl), err));
	for (size_t i = 0; i < 4; i++)
		DF_TRY(set_preference(*out, alignments[i], &alignment, sizeof(alignment), err));
out:
	return rc;
}

/* Does it give each element one sum over all of k? */
static bool
is_unsplit(const struct lt_algorithm *a)
{
	int32_t parts = 0;
	uint32_t scheme = 0;
	size_t n;

	return lt.MatmulAlgoConfigGetAttribute(a, LT_CONFIG_SPLITK_NUM, &parts, sizeof(parts), &n) == 0 && parts <= 1 &&
	    lt.MatmulAlgoConfigGetAttribute(a, LT_CONFIG_REDUCTION, &scheme, sizeof(scheme), &n) == 0 &&
	    scheme == LT_REDUCTION_NONE;
}

/*
 * The algorithm for c of rows64 * 64 rows: the first of the library's list that keeps the promise.  It is used for all
 * numbers of rows that round up to this.
 */
static int
choose(struct lane *l, const struct blas_product *p, struct plan *plan, struct df_err *err)
{
	enum { WANTED = 16 };
	struct lt_found found[WANTED];
	struct call c = { 0 };
	void *preference = NULL;
	int n = 0, rc;

	DF_TRY(call_make(&c, p, p->may_split ? p->m : plan->key.rows64 * 64, err));
	DF_TRY(preference_make(&preference, p->may_split, err));
	DF_TRY(check(lt.MatmulAlgoGetHeuristic(l->handle, c.desc, c.b, c.a, c.c, c.c, preference, WANTED, found, &n),
	    "cublasLtMatmulAlgoGetHeuristic", err));
	for (int i = 0; i < n; i++)
		if (found[i].state == 0 && (p->may_split || is_unsplit(&found[i].algorithm))) {
			plan->algorithm = found[i].algorithm;
			plan->workspace = found[i].workspace;
			goto out;
		}
	rc = df_fail(err, DF_EDEVICE,
	    "cuBLASLt: no algorithm for %zu x %zu x %zu that sums in one piece; set DF_CUBLAS=off", p->m, p->n, p->k);
out:
	if (preference)
		lt.MatmulPreferenceDestroy(preference);
	call_release(&c);
	return rc;
}

static int
plan_of(struct lane *l, const struct blas_product *p, const struct plan **out, struct df_err *err)
{
	struct plan plan = { .key = { .rows64 = p->m / 64 + (p->m % 64 != 0),
				 .n = p->n,
				 .k = p->k,
				 .lda = p->lda,
				 .ldb = p->ldb,
				 .ldc = p->ldc,
				 .bits = (uint64_t)p->ta | (uint64_t)p->tb << 1 | (uint64_t)p->c_is_f32 << 2 |
				     (uint64_t)p->may_split << 3 } };
	int rc = DF_OK;

	/* Models have some dozen shapes; the one after the last is the likeliest. */
	for (size_t i = 0; i < l->n_plans; i++) {
		const size_t at = (l->last + 1 + i) % l->n_plans;

		if (memcmp(&l->plans[at].key, &plan.key, sizeof(plan.key)) == 0) {
			l->last = at;
			goto out;
		}
	}
	DF_TRY(df_grow(&l->plans, &l->cap, l->n_plans + 1, sizeof(*l->plans), "plans of products", err));
	DF_TRY(choose(l, p, &plan, err));
	l->last = l->n_plans;
	l->plans[l->n_plans++] = plan;
out:
	if (rc == DF_OK)
		*out = &l->plans[l->last];
	return rc;
}

int
blas_multiply(void **blas, const struct blas_product *p, rt_stream_t s, struct df_err *err)
{
	const struct plan *plan;
	struct call c = { 0 };
	struct lane *l = *blas;
	int rc;

	if (!l) {
		DF_TRY(lane_new(&l, err));
		*blas = l;
	}
	DF_TRY(plan_of(l, p, &plan, err));
	if (plan->workspace > 0 && !l->workspace)
		DF_TRY(rt_malloc(&l->workspace, WORKSPACE, err));
	DF_TRY(call_make(&c, p, p->m, err));
	DF_TRY(check(lt.Matmul(l->handle, c.desc, &p->alpha, p->b, c.b, p->a, c.a, &p->beta, p->c, c.c, p->c, c.c,
			 &plan->algorithm, l->workspace, plan->workspace, (cudaStream_t)s),
	    "cublasLtMatmul", err));
out:
	call_release(&c);
	return rc;
}
