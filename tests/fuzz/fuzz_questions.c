/* fuzz_questions.c - MMLU's CSV files. */
#include "fuzz.h"

#include <stdio.h>
#include <sys/stat.h>

#include "eval/choice.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct df_err err = DF_ERR_INIT;
	struct df_choice_task t = { 0 };
	char path[4096];
	static int made;

	if (!made) {
		snprintf(path, sizeof(path), "%s/test", fuzz_dir());
		made = mkdir(path, 0700) == 0;
	}
	(void)fuzz_put("test/x_test.csv", data, n);
	if (df_choice_load(&t, fuzz_dir(), "test", NULL, 0, &err) == DF_OK)
		df_choice_release(&t);
	return 0;
}
