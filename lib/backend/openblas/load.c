/*
 * load.c - see load.h.
 *
 * Why not linked: OpenBLAS chooses its kernels and starts its threads as it is loaded, by variables of the environment.
 * So they must be set before, which only a program that opens the library itself can do; and programs that do not
 * use it start without its 30 MB.
 *
 * Which kernels: it knows CPUs by their model numbers, and one that is newer than itself gets Haswell's, at half the
 * speed or less where there is AVX-512.  What counts are the instructions, so those are asked for here.  Without
 * AVX-512 its own choice is as good as any.  The user's OPENBLAS_CORETYPE goes first.
 */
#include "backend/openblas/load.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Fedora's name of the build with threads first: the other name is there the build without. */
static const char *const names[] = { "libopenblasp.so.0", "libopenblas.so.0" };

/* Whose kernels, in OpenBLAS's words; NULL = let it choose. */
static const char *
best_kernels(void)
{
#if defined(__x86_64__) && defined(__GNUC__)
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
		return __builtin_cpu_supports("avx512bf16") ? "Cooperlake" : "SkylakeX";
#endif
	return NULL;
}

/* A variable of the environment that has another value for a while. */
struct variable {
	const char *name, *value; /* NULL: leave it as it is */
	char *before;
};

static int
set_variables(struct variable *v, size_t n, struct df_err *err)
{
	for (size_t i = 0; i < n; i++) {
		const char *before = getenv(v[i].name);

		if (!v[i].value)
			continue;
		if (before && !(v[i].before = strdup(before)))
			return df_fail(err, DF_ENOMEM, "out of memory");
		if (setenv(v[i].name, v[i].value, 1) != 0)
			return df_fail(err, DF_ENOMEM, "%s: out of memory", v[i].name);
	}
	return DF_OK;
}

static void
restore_variables(struct variable *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (v[i].before)
			setenv(v[i].name, v[i].before, 1);
		else if (v[i].value)
			unsetenv(v[i].name);
		free(v[i].before);
	}
}

/* The library's handle, or NULL with the reason in `why`. */
static void *
open_library(char *why, size_t size)
{
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		void *lib = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);

		if (lib)
			return lib;
		snprintf(why, size, "%s", dlerror());
	}
	return NULL;
}

static int
find_functions(struct df_openblas *blas, void *lib, struct df_err *err)
{
	char *(*config)(void), *(*kernel)(void);
	int (*parallel)(void);
	const struct {
		const char *name;
		void *pointer; /* to a function's, which dlsym gives as a pointer to data */
	} wanted[] = {
		{ "cblas_sgemm", &blas->sgemm },
		{ "openblas_set_num_threads", &blas->set_num_threads },
		{ "openblas_get_config", &config },
		{ "openblas_get_corename", &kernel },
		{ "openblas_get_parallel", &parallel },
	};

	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		void *f = dlsym(lib, wanted[i].name);

		if (!f)
			return df_fail(
			    err, DF_EUNSUPPORTED, "the OpenBLAS that is installed has no function %s", wanted[i].name);
		memcpy(wanted[i].pointer, &f, sizeof(f));
	}
	if (parallel() == 0)
		return df_fail(err, DF_EUNSUPPORTED,
		    "the OpenBLAS that is installed must not be called by several threads at once; install its build with "
		    "threads (Debian: libopenblas0-pthread)");
	if (sscanf(config(), "OpenBLAS %31s", blas->version) != 1)
		snprintf(blas->version, sizeof(blas->version), "unknown");
	snprintf(blas->kernel, sizeof(blas->kernel), "%s", kernel());
	blas->set_num_threads(1);
	return DF_OK;
}

int
df_openblas_load(const struct df_openblas **out, struct df_err *err)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static struct df_openblas loaded;
	static bool is_loaded;
	const char *wish = getenv("OPENBLAS_CORETYPE");
	struct variable v[] = {
		{ "OPENBLAS_CORETYPE", wish && *wish ? NULL : best_kernels(), NULL },
		{ "OPENBLAS_NUM_THREADS", "1", NULL },
		{ "OMP_NUM_THREADS", "1", NULL }, /* what its build with OpenMP reads */
	};
	const size_t n = sizeof(v) / sizeof(v[0]);
	struct df_openblas blas;
	char why[512] = "";
	void *lib = NULL;
	int rc = DF_OK;

	pthread_mutex_lock(&lock);
	if (is_loaded)
		goto out;
	if ((rc = set_variables(v, n, err)) == DF_OK)
		lib = open_library(why, sizeof(why));
	restore_variables(v, n);
	DF_TRY(rc);
	if (!lib) {
		rc = df_fail(err, DF_EUNSUPPORTED,
		    "OpenBLAS cannot be loaded (%s); install it (Debian: libopenblas0-pthread) or use --device cpu",
		    why);
		goto out;
	}
	if ((rc = find_functions(&blas, lib, err)) != DF_OK)
		goto out; /* it stays: OpenBLAS does not like to be unloaded */
	loaded = blas;
	is_loaded = true;
out:
	pthread_mutex_unlock(&lock);
	if (rc == DF_OK)
		*out = &loaded;
	return rc;
}
