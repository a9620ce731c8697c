/* fuzz_config.c - config.json of a model directory. */
#include "fuzz.h"
#include "model/model.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct df_model_config c = { 0 };
	struct df_err err = DF_ERR_INIT;

	fuzz_put("config.json", data, n);
	if (df_model_config_load(&c, fuzz_dir(), &err) == DF_OK)
		df_model_config_release(&c);
	return 0;
}
