/* fuzz_info_entry.c - an entry is added to a dataset_info.json: what was there is still there, and the entry too. */
#include <stdio.h>
#include <string.h>

#include "fuzz.h"
#include "base/json.h"
#include "data/export.h"

static void
check(const struct df_buf *text, const uint8_t *data, size_t n)
{
	struct df_json *was = NULL, *is = NULL;
	struct df_err err = DF_ERR_INIT;

	if (df_json_parse_unique(&was, (const char *)data, n, "was", &err) != DF_OK ||
	    df_json_parse_unique(&is, text->data, text->len, "is", &err) != DF_OK)
		__builtin_trap();
	if (!df_json_get(df_json_root(is), "mine") ||
	    df_json_size(df_json_root(is)) - df_json_size(df_json_root(was)) > 1)
		__builtin_trap();
	df_json_free(was);
	df_json_free(is);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct df_buf entry = DF_BUF_INIT, text = DF_BUF_INIT;
	struct df_err err = DF_ERR_INIT;
	bool write;

	df_buf_puts(&entry, "  \"mine\": {\n    \"file_name\": \"mine.json\"\n  }");
	if (df_info_add(&text, &write, fuzz_put("dataset_info.json", data, n), "mine", &entry, true, &err) == DF_OK &&
	    write)
		check(&text, data, n);
	df_buf_release(&entry);
	df_buf_release(&text);
	return 0;
}
