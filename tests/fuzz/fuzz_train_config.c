/* fuzz_train_config.c - the YAML of df-train. */
#include "fuzz.h"
#include "config/config.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct df_err err = DF_ERR_INIT;
	struct df_train_config c;

	if (df_train_config_load(&c, fuzz_put("train.yaml", data, n), NULL, 0, &err) == DF_OK)
		df_train_config_release(&c);
	return 0;
}
