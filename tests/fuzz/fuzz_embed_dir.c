/* fuzz_embed_dir.c - a directory of sentence-transformers: its four files, with a NUL between them. */
#include "fuzz.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "embed/embed_priv.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char *const names[] = { "modules.json", "1_Pooling/config.json", "sentence_bert_config.json",
		"config_sentence_transformers.json" };
	struct df_err err = DF_ERR_INIT;
	struct df_embed_dir d;
	char pooling[4096];

	snprintf(pooling, sizeof(pooling), "%s/1_Pooling", fuzz_dir());
	if (df_mkdirs(pooling, &err) != DF_OK)
		return 0;
	for (int i = 0; i < 4; i++) {
		const uint8_t *end = n ? memchr(data, 0, n) : NULL;
		const size_t len = end ? (size_t)(end - data) : n;

		fuzz_put(names[i], data, len);
		data += len + (end != NULL);
		n -= len + (end != NULL);
	}
	for (int i = 0; i < 2; i++)
		if (df_embed_dir_read(&d, fuzz_dir(), i ? "query" : NULL, &err) == DF_OK)
			df_embed_dir_release(&d);
	return 0;
}
