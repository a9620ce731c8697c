/* fuzz_adapter.c - adapter_config.json beside a model that is whole. */
#include "backend/backend.h"
#include "fuzz.h"
#include "model/model.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *src = getenv("DF_SRCDIR");
	struct df_err err = DF_ERR_INIT;
	struct df_backend *be = NULL;
	struct df_model *m = NULL;
	char base[PATH_MAX];

	snprintf(base, sizeof(base), "%s/tests/golden/model/llama", src != NULL ? src : ".");
	fuzz_put("adapter_config.json", data, n);
	if (df_backend_open(&be, "cpu", NULL, &err) != DF_OK)
		__builtin_trap();
	/* There are no weights: accepted configurations end at the missing file. */
	if (df_model_open(&m, fuzz_dir(), base, be, &err) == DF_OK)
		__builtin_trap();
	df_backend_close(be);
	return 0;
}
