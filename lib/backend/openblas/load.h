/*
 * load.h - OpenBLAS's shared library, opened when it is first asked for.
 */
#ifndef DF_BACKEND_OPENBLAS_LOAD_H
#define DF_BACKEND_OPENBLAS_LOAD_H

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What cblas.h calls CblasRowMajor, CblasNoTrans and CblasTrans. */
enum { DF_CBLAS_ROW_MAJOR = 101, DF_CBLAS_NO_TRANS = 111, DF_CBLAS_TRANS = 112 };

struct df_openblas {
	void (*sgemm)(int order, int ta, int tb, int m, int n, int k, float alpha, const float *a, int lda,
	    const float *b, int ldb, float beta, float *c, int ldc);
	void (*set_num_threads)(int n);
	char version[32]; /* "0.3.21" */
	char kernel[32];  /* whose kernels it runs: "Cooperlake" */
};

/*
 * Load it, once a process, with one thread for each call and the best kernels for this CPU.  *out belongs to nobody and
 * lives as long as the process.  DF_EUNSUPPORTED if there is none that can be used.  From any thread, but the first
 * call sets variables of the environment for a moment, so no other thread may read the environment meanwhile.
 */
int df_openblas_load(const struct df_openblas **out, struct df_err *err) DF_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
