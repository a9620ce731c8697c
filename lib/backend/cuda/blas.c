/*
 * blas.c - which products are the library's.  See blas.h.
 */
#include "backend/cuda/blas.h"

#include <pthread.h>
#include <stdint.h>

#include "base/log.h"

/*
 * The smallest K and N that are left to the library: below, it chooses kernels without tensor cores.  Adapters of LoRA
 * are the own kernels', whatever their rank.
 */
enum { LEAST = 128 };

static char reason[512]; /* that the library is not used, "" if it is */
static bool is_there;
static const struct rt_device *asked;

static void
ask(void)
{
	is_there = blas_there(asked, reason, sizeof(reason));
	if (!is_there && *reason)
		df_warn("cuda: products run on the backend's own kernels, more slowly than they could: %s", reason);
}

/* Once for all devices: those of one machine are alike. */
static bool
library_is_there(const struct rt_device *device)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&lock);
	asked = device;
	pthread_once(&once, ask);
	pthread_mutex_unlock(&lock);
	return is_there;
}

static const void *
start_of(const struct df_tensor *t)
{
	return (const char *)t->mem->data + t->off * df_dtype_size(t->type);
}

/* Can 16 bytes be moved at once, in every row? */
static bool
is_aligned(const struct df_tensor *t)
{
	return (uintptr_t)start_of(t) % 16 == 0 && t->ld * df_dtype_size(t->type) % 16 == 0;
}

static bool
suits(const struct df_gemm *g)
{
	const size_t k = g->ta ? g->a.rows : g->a.cols;

	if (g->a.type != DF_BF16 || g->b.type != DF_BF16 || (g->c.type != DF_BF16 && g->c.type != DF_F32))
		return false;
	if (!is_aligned(&g->a) || !is_aligned(&g->b) || !is_aligned(&g->c))
		return false;
	if (g->c.cols < LEAST || g->c.cols % 16 != 0)
		return false;
	/* A gradient: the sum is over tokens, of which there may be any number. */
	if (g->ta)
		return g->c.rows >= LEAST && g->c.rows % 16 == 0 && k > 0;
	return k >= LEAST && k % 16 == 0;
}

int
df_cuda_blas_gemm(struct df_backend *be, const struct df_gemm *g, bool *done, struct df_err *err)
{
	struct df_cuda_lane *lane = df_cuda_lane_of(be);
	struct blas_product p;
	int rc;

	*done = false;
	if (g->c.rows == 0 || !suits(g) || !library_is_there(&lane->dev->device))
		return DF_OK;
	p = (struct blas_product){ .ta = g->ta,
		.tb = g->tb,
		.c_is_f32 = g->c.type == DF_F32,
		.m = g->c.rows,
		.n = g->c.cols,
		.k = g->ta ? g->a.rows : g->a.cols,
		.lda = g->a.ld,
		.ldb = g->b.ld,
		.ldc = g->c.ld,
		.a = start_of(&g->a),
		.b = start_of(&g->b),
		.c = (void *)(uintptr_t)start_of(&g->c),
		.alpha = g->alpha,
		.beta = g->beta,
		.may_split = g->ta };
	DF_TRY(blas_multiply(&lane->blas, &p, lane->stream, err));
	*done = true;
out:
	return rc;
}
