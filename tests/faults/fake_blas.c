/*
 * fake_blas.c - a library that looks like OpenBLAS, and tells what it saw when it was loaded.
 *
 * As a "kernel" it names the variables of the environment that a real one reads then.  FAKE_BLAS=serial is a build that must
 * not be called by several threads, FAKE_BLAS=parallel one that may.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char seen[32];

static const char *
value_of(const char *name)
{
	const char *value = getenv(name);

	return value ? value : "unset";
}

__attribute__((constructor)) static void
look(void)
{
	snprintf(seen, sizeof(seen), "%s %s %s", value_of("OPENBLAS_CORETYPE"), value_of("OPENBLAS_NUM_THREADS"),
	    value_of("OMP_NUM_THREADS"));
}

void
cblas_sgemm(void)
{
	abort();
}

void
openblas_set_num_threads(int n)
{
	if (n != 1)
		abort();
}

char *
openblas_get_config(void)
{
	return "OpenBLAS 9.8.7 FAKE";
}

char *
openblas_get_corename(void)
{
	return seen;
}

int
openblas_get_parallel(void)
{
	return strcmp(value_of("FAKE_BLAS"), "serial") != 0;
}
