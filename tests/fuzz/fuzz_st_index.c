/* fuzz_st_index.c - model.safetensors.index.json, which names files. */
#include "fuzz.h"
#include "safetensors/safetensors.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char shard[] = "\x40\0\0\0\0\0\0\0"
				    "{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}          "
				    "\0\0\0\0\0\0\0\0";
	struct df_err err = DF_ERR_INIT;
	struct df_st *st = NULL;

	fuzz_put("a.safetensors", shard, 8 + 64 + 8);
	fuzz_put("model.safetensors.index.json", data, n);
	if (df_st_open_model(&st, fuzz_dir(), &err) == DF_OK)
		df_st_close(st);
	return 0;
}
