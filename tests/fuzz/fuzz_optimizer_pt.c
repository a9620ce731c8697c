/* fuzz_optimizer_pt.c - the optimizer.pt of an adapter. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/backend.h"
#include "fuzz.h"
#include "model/model_priv.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *src = getenv("DF_SRCDIR");
	struct df_err err = DF_ERR_INIT;
	struct df_moments o = { 0 };
	static struct df_backend *be; /* both are used again in every call */
	static struct df_model *m;
	char dir[PATH_MAX];

	snprintf(dir, sizeof(dir), "%s/tests/golden/optimizer/tiny", src != NULL ? src : ".");
	if (be == NULL && df_backend_open(&be, "cpu", NULL, &err) != DF_OK)
		__builtin_trap();
	if (m == NULL && df_model_open(&m, dir, NULL, be, &err) != DF_OK)
		__builtin_trap();
	if (df_moments_init(&o, m, &err) != DF_OK)
		__builtin_trap();
	/* What was accepted has a state of each parameter, or says of how many it has none. */
	if (df_moments_read_torch(&o, m, fuzz_put("optimizer.pt", data, n), &err) == DF_OK && o.n_without > m->train.n)
		__builtin_trap();
	df_moments_release(&o, m);
	return 0;
}
