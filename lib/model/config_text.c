/*
 * config_text.c - the config.json that saving writes: the members of the file that was read, in its
 * order, with the floating type that is saved.
 */
#include "model/config_priv.h"

#include <stdlib.h>
#include <string.h>

static void
indent(struct df_buf *b, int depth)
{
	df_buf_putc(b, '\n');
	for (int i = 0; i < depth; i++)
		df_buf_puts(b, "  ");
}

static void
dump(struct df_buf *b, const struct df_json_value *v, int depth)
{
	const struct df_json_member *m = NULL;
	const struct df_json_value *x;
	const char *key;
	double d = 0;
	int64_t i = 0;
	size_t n;

	switch (df_json_type(v)) {
	case DF_JSON_BOOL: df_buf_puts(b, df_json_bool(v, false) ? "true" : "false"); break;
	case DF_JSON_INT:
		if (df_json_int(v, &i))
			df_buf_printf(b, "%lld", (long long)i);
		break;
	case DF_JSON_REAL:
		if (df_json_number(v, &d))
			df_buf_json_double(b, d);
		break;
	case DF_JSON_STR:
		key = df_json_str(v, &n);
		df_buf_json_strn(b, key, n);
		break;
	case DF_JSON_ARRAY:
		df_buf_putc(b, '[');
		for (n = 0; n < df_json_size(v); n++) {
			df_buf_puts(b, n ? "," : "");
			indent(b, depth + 1);
			dump(b, df_json_at(v, n), depth + 1);
		}
		if (n > 0)
			indent(b, depth);
		df_buf_putc(b, ']');
		break;
	case DF_JSON_OBJECT:
		df_buf_putc(b, '{');
		for (n = 0; (m = df_json_next(v, m, &key, &x)) != NULL; n++) {
			df_buf_puts(b, n ? "," : "");
			indent(b, depth + 1);
			df_buf_json_str(b, key);
			df_buf_puts(b, ": ");
			/* We save float32, and transformers 5 uses this key, not the type of the tensors. */
			if (depth == 0 && (strcmp(key, "torch_dtype") == 0 || strcmp(key, "dtype") == 0))
				df_buf_puts(b, "\"float32\"");
			else
				dump(b, x, depth + 1);
		}
		if (n > 0)
			indent(b, depth);
		df_buf_putc(b, '}');
		break;
	default: df_buf_puts(b, "null");
	}
}

int
df_config_text(struct df_buf *out, const struct df_json_value *root, struct df_err *err)
{
	dump(out, root, 0);
	df_buf_putc(out, '\n');
	return df_buf_check(out, err);
}

int
df_config_untie(struct df_model_config *c, struct df_err *err)
{
	/* In the form that dump() gives a member of the outermost object. */
	static const char key[] = "\n  \"tie_word_embeddings\": ", was[] = "true";
	struct df_buf b = DF_BUF_INIT;
	const char *text = c->json, *at;
	int rc;

	for (; (at = strstr(text, key)) != NULL; text = at) {
		at += sizeof(key) - 1;
		df_buf_add(&b, text, (size_t)(at - text));
		if (strncmp(at, was, sizeof(was) - 1) == 0) {
			df_buf_puts(&b, "false");
			at += sizeof(was) - 1;
		}
	}
	df_buf_puts(&b, text);
	DF_TRY(df_buf_check(&b, err));
	free(c->json);
	c->json = df_buf_detach(&b);
	c->tied = false;
out:
	df_buf_release(&b);
	return rc;
}
