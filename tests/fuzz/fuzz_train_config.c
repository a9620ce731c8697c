/* fuzz_train_config.c - the YAML of df-train and of df-merge. */
#include "fuzz.h"
#include "config/config.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct df_err err = DF_ERR_INIT;
	struct df_train_config c;

	const char *path = fuzz_put("train.yaml", data, n);

	if (df_train_config_load(&c, DF_OWNER_TRAIN, path, NULL, 0, &err) == DF_OK)
		df_train_config_release(&c);
	if (df_train_config_load(&c, DF_OWNER_EXPORT, path, NULL, 0, &err) == DF_OK)
		df_train_config_release(&c);
	return 0;
}
