/* fuzz_trainable.c - trainable.json beside weights: which of them train. */
#include "backend/backend.h"
#include "fuzz.h"
#include "model/model.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char *const files[] = { "config.json", "model.safetensors" };
	const char *src = getenv("DF_SRCDIR");
	struct df_err err = DF_ERR_INIT;
	struct df_backend *be = NULL;
	struct df_model *m = NULL;
	char from[PATH_MAX], whole[PATH_MAX], to[PATH_MAX + 32];

	for (int i = 0; i < 2; i++) { /* they stay from one call to the next */
		snprintf(from, sizeof(from), "%s/tests/golden/model/mixtral/%s", src != NULL ? src : ".", files[i]);
		snprintf(to, sizeof(to), "%s/%s", fuzz_dir(), files[i]);
		if (access(to, R_OK) != 0 && (realpath(from, whole) == NULL || symlink(whole, to) != 0))
			__builtin_trap();
	}
	fuzz_put("trainable.json", data, n);
	if (df_backend_open(&be, "cpu", NULL, &err) != DF_OK)
		__builtin_trap();
	if (df_model_open(&m, fuzz_dir(), NULL, be, &err) == DF_OK && df_model_train(m)->n == 0)
		__builtin_trap();
	df_model_free(m);
	df_backend_close(be);
	return 0;
}
