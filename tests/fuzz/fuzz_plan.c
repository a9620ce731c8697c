/* fuzz_plan.c - the YAML of df-plan, with a model and two datasets there; each plan through every printer. */
#include <stdio.h>
#include <string.h>

#include "fuzz.h"
#include "plan/plan.h"

/* What is there, once. */
static void
put_files(void)
{
	static const char *const files[][2] = {
		{ "config.json", "{\"model_type\": \"llama\"}" },
		{ "dataset_info.json", "{\"a\": {\"file_name\": \"a.jsonl\"}, \"b\": {\"file_name\": \"a.jsonl\"}}" },
		{ "a.jsonl",
		    "{\"instruction\": \"x\", \"input\": \"\", \"output\": \"y\"}\n"
		    "{\"instruction\": \"z\", \"input\": \"\", \"output\": \"t\"}\n" },
	};

	for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		(void)fuzz_put(files[i][0], files[i][1], strlen(files[i][1]));
}

static void
print(const struct df_plan *p)
{
	for (size_t i = 0; df_printers[i]; i++) {
		struct df_buf text = DF_BUF_INIT;

		if (df_printers[i]->print(p, &text, NULL) != DF_OK)
			df_buf_clear(&text);
		df_buf_release(&text);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct df_plan_opts o = { .tokenizer = "bytes", .shards = 2, .data = fuzz_dir() };
	char model[4096];
	const char *const words[] = { model };
	struct df_plan plan;

	put_files();
	(void)snprintf(model, sizeof(model), "model_name_or_path=%s", fuzz_dir());
	if (df_plan_make(&plan, &o, fuzz_put("x.yaml", data, n), words, 1, NULL) == DF_OK) {
		print(&plan);
		df_plan_release(&plan);
	}
	return 0;
}
