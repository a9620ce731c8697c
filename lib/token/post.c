/*
 * post.c - what a post-processor adds to a single text: ids before it and ids after it.
 *
 * TemplateProcessing lists them, BertProcessing and RobertaProcessing mean [CLS] text [SEP], ByteLevel only moves
 * offsets.  One member of a Sequence may add tokens: a second one would take the tokens of the first for another
 * text.
 */
#include <string.h>

#include "base/mem.h"
#include "token/token_priv.h"

/* Add ids around a text that already has some: `before` goes before all of them, `after` after all of them. */
static int
wrap(struct tok_frame *f, const struct df_ids *before, const struct df_ids *after, struct df_err *err)
{
	size_t n = f->n_before + f->n_after;
	int rc;

	DF_TRY(df_grow(&f->id, &f->cap, n + before->n + after->n, sizeof(*f->id), "special tokens", err));
	memmove(f->id + before->n, f->id, n * sizeof(*f->id));
	for (size_t i = 0; i < before->n; i++)
		f->id[i] = before->v[i];
	for (size_t i = 0; i < after->n; i++)
		f->id[before->n + n + i] = after->v[i];
	f->n_before += before->n;
	f->n_after += after->n;
out:
	return rc;
}

int
df_tok_frame_wrap(struct tok_frame *f, uint32_t before, uint32_t after, struct df_err *err)
{
	struct df_ids b = { &before, before != DF_NO_TOKEN, 1 }, a = { &after, after != DF_NO_TOKEN, 1 };

	return wrap(f, &b, &a, err);
}

static int
read_id(const struct df_json_value *v, uint32_t *id, struct df_err *err)
{
	int64_t said;

	if (!df_json_int(v, &said) || said < 0 || said >= INT32_MAX)
		return df_fail(err, DF_EFORMAT, "a special token's id is %s", df_json_type_name(v));
	*id = (uint32_t)said;
	return DF_OK;
}

static int
load_template(struct tok_frame *f, const struct df_json_value *v, struct df_err *err)
{
	const struct df_json_value *single = df_json_get(v, "single"), *map = df_json_get(v, "special_tokens");
	struct df_ids side[2] = { { .v = NULL }, { .v = NULL } };
	size_t n_texts = 0;
	int rc = DF_OK;

	if (df_json_type(single) != DF_JSON_ARRAY)
		return df_fail(err, DF_EFORMAT, "single: expected an array, found %s", df_json_type_name(single));
	for (size_t i = 0; i < df_json_size(single); i++) {
		const struct df_json_value *item = df_json_at(single, i), *ids;
		const char *name = df_json_str(df_json_get(df_json_get(item, "SpecialToken"), "id"), NULL);
		struct df_ids *out = &side[n_texts > 0];

		if (df_json_get(item, "Sequence") != NULL) {
			n_texts++;
			continue;
		}
		ids = name == NULL ? NULL : df_json_get(df_json_get(map, name), "ids");
		if (df_json_type(ids) != DF_JSON_ARRAY) {
			rc = df_fail(
			    err, DF_EFORMAT, "single[%zu]: '%s' is not one of its special_tokens", i, name ? name : "");
			goto out;
		}
		for (size_t k = 0; k < df_json_size(ids); k++) {
			DF_TRY(df_grow(&out->v, &out->cap, out->n + 1, sizeof(*out->v), "special tokens", err));
			DF_TRY(read_id(df_json_at(ids, k), &out->v[out->n++], err));
		}
	}
	if (n_texts != 1)
		rc = df_fail(err, DF_EUNSUPPORTED, "single: a template with %zu texts is not supported", n_texts);
	else
		rc = wrap(f, &side[0], &side[1], err);
out:
	df_ids_release(&side[0]);
	df_ids_release(&side[1]);
	return rc;
}

/* "cls" and "sep" are each ["text", id]. */
static int
load_bert(struct tok_frame *f, const struct df_json_value *v, struct df_err *err)
{
	uint32_t cls, sep;
	int rc;

	DF_TRY(read_id(df_json_at(df_json_get(v, "cls"), 1), &cls, err));
	DF_TRY(read_id(df_json_at(df_json_get(v, "sep"), 1), &sep, err));
	DF_TRY(df_tok_frame_wrap(f, cls, sep, err));
out:
	return rc;
}

int
df_tok_frame_load(struct tok_frame *f, const struct df_json_value *v, struct df_err *err)
{
	const struct df_json_value *list;
	const char *type;
	int rc;

	if (df_json_type(v) == DF_JSON_ABSENT || df_json_type(v) == DF_JSON_NULL)
		return DF_OK;
	DF_TRY(df_tok_type_of(v, "post_processor", &type, err));
	if (strcmp(type, "Sequence") == 0) {
		list = df_json_get(v, "processors");
		for (size_t i = 0; i < df_json_size(list); i++)
			DF_TRY(df_tok_frame_load(f, df_json_at(list, i), err));
		return DF_OK;
	}
	if (strcmp(type, "ByteLevel") == 0)
		return DF_OK;
	if (f->n_before + f->n_after > 0)
		return df_fail(err, DF_EUNSUPPORTED, "post_processor '%s' after another one is not supported", type);
	if (strcmp(type, "TemplateProcessing") == 0)
		rc = load_template(f, v, err);
	else if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0)
		rc = load_bert(f, v, err);
	else
		return df_fail(err, DF_EUNSUPPORTED, "post_processor '%s' is not supported", type);
	if (rc != DF_OK)
		df_err_prefix(err, "post_processor '%s': ", type);
out:
	return rc;
}
