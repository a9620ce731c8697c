/* fuzz_dataset_info.c - dataset_info.json, and the rows it describes. */
#include <string.h>

#include "fuzz.h"
#include "data/dataset.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char rows[] = "[{\"instruction\":\"a\",\"input\":\"\",\"output\":\"b\","
				   "\"conversations\":[{\"from\":\"human\",\"value\":\"x\"}]}]";
	struct df_err err = DF_ERR_INIT;
	struct df_dataset_info *info = NULL;
	struct df_example ex = DF_EXAMPLE_INIT;
	struct df_dataset *ds = NULL;
	struct df_record rec;

	fuzz_put("a.json", rows, strlen(rows));
	fuzz_put("dataset_info.json", data, n);
	if (df_dataset_info_open(&info, fuzz_dir(), &err) != DF_OK)
		return 0;
	if (df_dataset_open(&ds, info, "a", DF_STAGE_SFT, &err) == DF_OK) {
		if (df_dataset_check_columns(ds, &err) != DF_OK)
			err = (struct df_err)DF_ERR_INIT;
		while (df_dataset_next(ds, &rec, &err) == 1 && df_dataset_convert(ds, &rec, &ex, &err) == DF_OK)
			;
	}
	df_example_release(&ex);
	df_dataset_free(ds);
	df_dataset_info_free(info);
	return 0;
}
