/* fuzz_torch.c - a file of torch.save(), or, if it begins as one, the pickle in such a file. */
#include <stdlib.h>

#include "fuzz.h"
#include "torch/torch_priv.h"

/* Reading every value once must end: there are no cycles.  Shared values are read once for each place, up to a limit. */
static void
walk(const struct df_torch_value *v, int depth, size_t *budget)
{
	const struct df_st_tensor *t = df_torch_tensor(v);
	const struct df_torch_value *key;
	volatile unsigned char sum = 0;
	size_t n = 0;
	const char *s = df_torch_str(v, &n);
	double d;

	if (depth > 100)
		abort();
	for (size_t i = 0; s && i < n; i++)
		sum = (unsigned char)(sum + (unsigned char)s[i]);
	for (size_t i = 0; t && i < t->nbytes; i++)
		sum = (unsigned char)(sum + ((const unsigned char *)t->data)[i]);
	(void)df_torch_double(v, &d);
	(void)df_torch_type_name(v);
	(void)df_torch_get(v, "state");
	for (size_t i = 0; i < df_torch_size(v) && *budget > 0; i++, (*budget)--) {
		key = NULL;
		walk(df_torch_at(v, i, &key), depth + 1, budget);
		if (key)
			walk(key, depth + 1, budget);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const float elements[64];
	struct df_zip_entry v[] = { { .name = "a/data/0", .n_name = 8, .data = (const char *)elements, .nbytes = 64 },
		{ .name = "a/data/1", .n_name = 8, .data = (const char *)elements, .nbytes = 4 },
		{ .name = "a/data/2", .n_name = 8, .data = (const char *)elements, .nbytes = 256 } };
	const struct df_zip zip = { .v = v, .n = 3 };
	struct df_arena arena = DF_ARENA_INIT;
	const struct df_torch_value *root;
	struct df_err err = DF_ERR_INIT;
	struct df_torch *t = NULL;
	size_t budget = 100000;

	if (n > 0 && data[0] == 0x80) {
		if (df_pickle_read(&root, &arena, data, n, &zip, "a/", 2, &err) == DF_OK)
			walk(root, 0, &budget);
		df_arena_release(&arena);
	} else if (df_torch_open(&t, fuzz_put("a.pt", data, n), &err) == DF_OK) {
		walk(df_torch_root(t), 0, &budget);
		df_torch_close(t);
	}
	return 0;
}
