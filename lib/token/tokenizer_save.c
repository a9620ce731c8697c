/*
 * tokenizer_save.c - the tokenizer's files beside a checkpoint.
 *
 * Files are copied byte for byte; where special tokens changed after opening (a template's fix-ups), the members
 * that name them are written again and the rest is kept.  "bytes" becomes a byte-level BPE without merges, which
 * transformers loads and which encodes the same.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "token/token_priv.h"

#define FILE_LIMIT ((size_t)512 << 20)

/* Files that are copied without a look inside. */
static const char *const companions[] = { "vocab.txt", "vocab.json", "merges.txt", "added_tokens.json",
	"chat_template.jinja" };

static int
put_beside(const char *dir, const char *name, const struct df_buf *b, struct df_err *err)
{
	char *path = NULL;
	int rc;

	DF_TRY(df_buf_check(b, err));
	DF_TRY(df_path_join(&path, dir, name, err));
	DF_TRY(df_file_put(path, b->data, b->len, err));
out:
	free(path);
	return rc;
}

/* Copy FROM (nothing when it does not exist) to DIR/NAME. */
static int
copy(const char *from, const char *dir, const char *name, struct df_err *err)
{
	char *to = NULL, *data = NULL;
	size_t n;
	bool there;
	int rc;

	DF_TRY(df_file_probe(from, &there, err));
	if (!there)
		goto out;
	DF_TRY(df_path_join(&to, dir, name, err));
	DF_TRY(df_file_get(from, FILE_LIMIT, &data, &n, err));
	DF_TRY(df_file_put(to, data, n, err));
out:
	free(to);
	free(data);
	return rc;
}

static void
put_key(struct df_buf *b, const char *key, bool first)
{
	df_buf_puts(b, first ? "\n  " : ",\n  ");
	df_buf_json_str(b, key);
	df_buf_puts(b, ": ");
}

static void
put_added(struct df_buf *b, const struct tok_added *a)
{
	df_buf_putc(b, '[');
	for (size_t i = 0; i < a->n; i++) {
		const struct tok_added_token *t = df_tok_added_at(a, i);

		df_buf_printf(b, "%s\n    {\"id\": %u, \"content\": ", i > 0 ? "," : "", t->id);
		df_buf_json_strn(b, t->text, t->n);
		df_buf_printf(b,
		    ", \"single_word\": %s, \"lstrip\": %s, \"rstrip\": %s, \"normalized\": %s, \"special\": %s}",
		    t->flags.single_word ? "true" : "false", t->flags.lstrip ? "true" : "false",
		    t->flags.rstrip ? "true" : "false", t->flags.normalized ? "true" : "false",
		    t->flags.special ? "true" : "false");
	}
	df_buf_puts(b, "\n  ]");
}

/* The text of a special token, or null. */
static void
put_token(struct df_buf *b, const struct df_tokenizer *t, uint32_t id)
{
	const struct tok_added_token *a = df_tok_added_by_id(&t->added, id);

	if (a != NULL)
		df_buf_json_strn(b, a->text, a->n);
	else
		df_buf_puts(b, "null");
}

/* --- bytes ---------------------------------------------------------------------------------------------------- */

static int
save_bytes(const struct df_tokenizer *t, const char *dir, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT, c = DF_BUF_INIT;
	int rc;

	df_buf_puts(
	    &b, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n  \"added_tokens\": ");
	put_added(&b, &t->added);
	df_buf_puts(&b,
	    ",\n  \"normalizer\": null,\n"
	    "  \"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
	    "\"use_regex\": false},\n"
	    "  \"post_processor\": null,\n"
	    "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
	    "\"use_regex\": false},\n"
	    "  \"model\": {\"type\": \"BPE\", \"dropout\": null, \"unk_token\": null, \"continuing_subword_prefix\": null, "
	    "\"end_of_word_suffix\": null, \"fuse_unk\": false, \"byte_fallback\": false, \"ignore_merges\": false, "
	    "\"vocab\": {");
	for (unsigned i = 0; i < 256; i++) {
		df_buf_clear(&c);
		df_buf_put_utf8(&c, df_tok_byte_char((unsigned char)i));
		DF_TRY(df_buf_check(&c, err));
		df_buf_puts(&b, i > 0 ? ", " : "");
		df_buf_json_strn(&b, c.data, c.len);
		df_buf_printf(&b, ": %u", i);
	}
	df_buf_puts(&b, "}, \"merges\": []}\n}\n");
	DF_TRY(put_beside(dir, "tokenizer.json", &b, err));
out:
	df_buf_release(&b);
	df_buf_release(&c);
	return rc;
}

/* --- a tokenizer.json ----------------------------------------------------------------------------------------- */

static int
save_pipeline(const struct df_tokenizer *t, const char *dir, struct df_err *err)
{
	const struct df_json_member *m = NULL;
	const struct df_json_value *v;
	struct df_buf b = DF_BUF_INIT;
	struct df_json *j = NULL;
	const char *key;
	bool first = true, written = false;
	int rc;

	if (!t->changed && t->made == NULL)
		return copy(t->json_path, dir, "tokenizer.json", err);
	DF_TRY(t->made != NULL ? df_json_parse(&j, t->made, strlen(t->made), t->path, err)
			       : df_json_load(&j, t->json_path, FILE_LIMIT, err));
	df_buf_putc(&b, '{');
	while ((m = df_json_next(df_json_root(j), m, &key, &v)) != NULL) {
		put_key(&b, key, first);
		first = false;
		if (strcmp(key, "added_tokens") == 0) {
			put_added(&b, &t->added);
			written = true;
		} else {
			df_json_write(&b, v);
		}
	}
	if (!written) {
		put_key(&b, "added_tokens", first);
		put_added(&b, &t->added);
	}
	df_buf_puts(&b, "\n}\n");
	DF_TRY(put_beside(dir, "tokenizer.json", &b, err));
out:
	df_json_free(j);
	df_buf_release(&b);
	return rc;
}

/* A configuration whose special tokens are replaced by the present ones. */
static void
put_config(struct df_buf *b, const struct df_tokenizer *t, const struct df_json_value *config)
{
	static const char *const names[] = { "bos_token", "eos_token", "pad_token" };
	const uint32_t ids[] = { t->bos, t->eos, t->pad };
	const struct df_json_member *m = NULL;
	const struct df_json_value *v;
	bool written[3] = { false }, first = true;
	const char *key;

	df_buf_putc(b, '{');
	while ((m = df_json_next(config, m, &key, &v)) != NULL) {
		size_t i = 0;

		while (i < 3 && strcmp(names[i], key) != 0)
			i++;
		put_key(b, key, first);
		first = false;
		if (i < 3) {
			put_token(b, t, ids[i]);
			written[i] = true;
		} else if (strcmp(key, "added_tokens_decoder") == 0) {
			df_buf_puts(b, "{}");
		} else {
			df_json_write(b, v);
		}
	}
	for (size_t i = 0; i < 3; i++) {
		if (written[i] || ids[i] == DF_NO_TOKEN)
			continue;
		put_key(b, names[i], first);
		put_token(b, t, ids[i]);
		first = false;
	}
	if (config == NULL) {
		put_key(b, "tokenizer_class", first);
		df_buf_puts(b, "\"PreTrainedTokenizerFast\"");
		put_key(b, "add_prefix_space", false);
		df_buf_puts(b, t->splits.n > 0 && t->splits.v[0].rewrite == TOK_SPACE ? "true" : "false");
		put_key(b, "clean_up_tokenization_spaces", false);
		df_buf_puts(b, "false");
	}
	df_buf_puts(b, "\n}\n");
}

/* NAME from the tokenizer's directory; made again when it has changed or, if `needed`, does not exist. */
static int
save_config(const struct df_tokenizer *t, const char *name, bool needed, const char *dir, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	struct df_json *j = NULL;
	char *from = NULL;
	bool have = false;
	int rc = DF_OK;

	if (t->json_path != NULL) {
		DF_TRY(df_path_join(&from, t->path, name, err));
		DF_TRY(df_file_probe(from, &have, err));
	}
	if (have && !t->changed) {
		rc = copy(from, dir, name, err);
		goto out;
	}
	if (!have && !needed)
		goto out;
	if (have)
		DF_TRY(df_json_load(&j, from, FILE_LIMIT, err));
	put_config(&b, t, have ? df_json_root(j) : NULL);
	DF_TRY(put_beside(dir, name, &b, err));
out:
	df_json_free(j);
	df_buf_release(&b);
	free(from);
	return rc;
}

int
df_tokenizer_save(const struct df_tokenizer *t, const char *dir, struct df_err *err)
{
	char *from = NULL;
	int rc;

	DF_TRY(df_mkdirs(dir, err));
	DF_TRY(t->json_path == NULL ? save_bytes(t, dir, err) : save_pipeline(t, dir, err));
	DF_TRY(save_config(t, "tokenizer_config.json", true, dir, err));
	DF_TRY(save_config(t, "special_tokens_map.json", false, dir, err));
	for (size_t i = 0; t->json_path != NULL && i < sizeof(companions) / sizeof(companions[0]); i++) {
		DF_TRY(df_path_join(&from, t->path, companions[i], err));
		DF_TRY(copy(from, dir, companions[i], err));
		free(from);
		from = NULL;
	}
out:
	free(from);
	return rc;
}
