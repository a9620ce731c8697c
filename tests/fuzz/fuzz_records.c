/* fuzz_records.c - a data file, as alpaca, sharegpt and openai rows. */
#include <string.h>

#include "fuzz.h"
#include "data/dataset.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char text[] =
	    "{\"a\":{\"file_name\":\"a.json\"},"
	    "\"s\":{\"file_name\":\"a.json\",\"formatting\":\"sharegpt\",\"columns\":"
	    "{\"messages\":\"conversations\",\"system\":\"system\",\"tools\":\"tools\"}},"
	    "\"o\":{\"file_name\":\"a.json\",\"formatting\":\"openai\",\"columns\":{\"messages\":\"messages\"},"
	    "\"tags\":{\"role_tag\":\"role\",\"content_tag\":\"content\",\"user_tag\":\"user\","
	    "\"assistant_tag\":\"assistant\",\"system_tag\":\"system\"}}}";
	static const char *const names[] = { "a", "s", "o" };
	struct df_example ex = DF_EXAMPLE_INIT;

	fuzz_put("dataset_info.json", text, strlen(text));
	fuzz_put("a.json", data, n);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct df_err err = DF_ERR_INIT;
		struct df_dataset_info *info = NULL;
		struct df_dataset *ds = NULL;
		struct df_record rec;

		if (df_dataset_info_open(&info, fuzz_dir(), &err) != DF_OK)
			__builtin_trap(); /* it is ours */
		if (df_dataset_open(&ds, info, names[i], DF_STAGE_SFT, &err) == DF_OK) {
			if (df_dataset_check_columns(ds, &err) != DF_OK)
				err = (struct df_err)DF_ERR_INIT;
			/* A row that is refused does not stop those behind it. */
			while (df_dataset_next(ds, &rec, &err) == 1)
				if (df_dataset_convert(ds, &rec, &ex, &err) != DF_OK)
					err = (struct df_err)DF_ERR_INIT;
		}
		df_dataset_free(ds);
		df_dataset_info_free(info);
	}
	df_example_release(&ex);
	return 0;
}
