/* fuzz_safetensors.c - a safetensors file: its header, then every tensor. */
#include <stdlib.h>

#include "fuzz.h"
#include "safetensors/safetensors.h"

#define NUMEL_MAX ((size_t)1 << 20)

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static float values[NUMEL_MAX];
	struct df_err err = DF_ERR_INIT;
	struct df_st *st = NULL;

	if (df_st_open(&st, fuzz_put("model.safetensors", data, n), &err) != DF_OK)
		return 0;
	for (size_t i = 0; i < df_st_count(st); i++) {
		const struct df_st_tensor *t = df_st_at(st, i);

		/* What was accepted can be read, by any name it says it has. */
		if (df_st_find(st, t->name) == NULL)
			abort();
		if (t->numel <= NUMEL_MAX && df_st_to_f32(t, values, &err) != DF_OK)
			continue;
	}
	df_st_metadata(st, "format");
	df_st_close(st);
	return 0;
}
