/*
 * eos.c - the tokens that end an answer, which several files of a model's directory name.
 *
 * Only the end tokens are read from generation_config.json: a temperature or top-p that the model's
 * maker prefers is not applied without being asked for.
 */
#include <stdlib.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "sample/generate.h"

#define FILE_MAX ((size_t)16 << 20)

static int
add(struct df_ids *eos, int64_t id, const struct df_model *m, struct df_err *err)
{
	size_t at = 0;
	int rc = DF_OK;

	if (id < 0 || (uint64_t)id >= df_model_config(m)->n_vocab)
		return DF_OK; /* the model does not have this token */
	while (at < eos->n && eos->v[at] < id)
		at++;
	if (at < eos->n && eos->v[at] == id)
		return DF_OK;
	DF_TRY(df_grow(&eos->v, &eos->cap, eos->n + 1, sizeof(*eos->v), "eos", err));
	for (size_t i = eos->n++; i > at; i--)
		eos->v[i] = eos->v[i - 1];
	eos->v[at] = (uint32_t)id;
out:
	return rc;
}

static int
add_value(
    struct df_ids *eos, const struct df_json_value *v, const char *path, const struct df_model *m, struct df_err *err)
{
	int64_t id;

	if (!df_json_int(v, &id))
		return df_fail(err, DF_EFORMAT, "%s: 'eos_token_id': expected an integer, or a list of them, found %s",
		    path, df_json_type_name(v));
	return add(eos, id, m, err);
}

static int
add_file(struct df_ids *eos, const char *path, const struct df_model *m, struct df_err *err)
{
	const struct df_json_value *v;
	struct df_json *doc = NULL;
	int rc;

	DF_TRY(df_json_load(&doc, path, FILE_MAX, err));
	if (df_json_type(df_json_root(doc)) != DF_JSON_OBJECT) {
		rc = df_fail(
		    err, DF_EFORMAT, "%s: expected an object, found %s", path, df_json_type_name(df_json_root(doc)));
		goto out;
	}
	v = df_json_get(df_json_root(doc), "eos_token_id");
	if (df_json_type(v) == DF_JSON_ARRAY) {
		for (size_t i = 0; i < df_json_size(v); i++)
			DF_TRY(add_value(eos, df_json_at(v, i), path, m, err));
	} else if (df_json_type(v) != DF_JSON_ABSENT && df_json_type(v) != DF_JSON_NULL) {
		rc = add_value(eos, v, path, m, err);
	}
out:
	df_json_free(doc);
	return rc;
}

static int
add_dir(struct df_ids *eos, const char *dir, const struct df_model *m, struct df_err *err)
{
	char *path = NULL;
	bool there;
	int rc = DF_OK;

	if (dir == NULL)
		return DF_OK;
	DF_TRY(df_path_join(&path, dir, "generation_config.json", err));
	DF_TRY(df_file_probe(path, &there, err));
	if (there)
		rc = add_file(eos, path, m, err);
out:
	free(path);
	return rc;
}

int
df_generate_eos(struct df_ids *eos, const char *dir, const struct df_model *m, const struct df_tokenizer *tok,
    const struct df_encoder *enc, struct df_err *err)
{
	const struct df_model_config *c = df_model_config(m);
	int rc;

	DF_TRY(add_dir(eos, dir, m, err));
	DF_TRY(add_dir(eos, df_model_dir(m), m, err));
	DF_TRY(add(eos, c->eos_id, m, err));
	for (size_t i = 0; i < c->n_eos; i++)
		DF_TRY(add(eos, c->eos_ids[i], m, err));
	if (tok != NULL && df_tokenizer_eos(tok) != DF_NO_TOKEN)
		DF_TRY(add(eos, df_tokenizer_eos(tok), m, err));
	for (size_t i = 0; enc && i < df_encoder_stops(enc)->n; i++)
		DF_TRY(add(eos, df_encoder_stops(enc)->v[i], m, err));
out:
	return rc;
}
