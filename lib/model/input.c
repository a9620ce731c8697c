/*
 * input.c - a model as an input of what is made with it, and which tokenizer it belongs to: the one that
 * df-train noted, or else the one that lies in its directory.  Ids of tokenizers are digests of what they do, not of
 * files, so that a file written anew is the same.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/model.h"
#include "model/trained.h"
#include "token/tokenizer.h"

/* The tokenizer.json in dir, if there is one, is that one; *there says. */
static int
check_file(const char *dir, const char *tokenizer, const char *name, bool *there, struct df_err *err)
{
	struct df_tokenizer *t = NULL;
	char *path = NULL;
	int rc;

	DF_TRY(df_path_join(&path, dir, "tokenizer.json", err));
	DF_TRY(df_file_probe(path, there, err));
	if (!*there)
		goto out;
	DF_TRY(df_tokenizer_open(&t, dir, err));
	rc = df_tokenizer_check(t, tokenizer, name, err);
out:
	df_tokenizer_free(t);
	free(path);
	return rc;
}

int
df_model_check_tokenizer(const char *dir, const char *tokenizer, const char *name, bool *known, struct df_err *err)
{
	char *id = NULL;
	bool there = false;
	int rc;

	DF_TRY(df_trained_tokenizer(&id, dir, err));
	if (id && tokenizer && strcmp(id, tokenizer) != 0)
		rc = df_fail(err, DF_ELINEAGE, "%s was made with tokenizer '%s', the checkpoint %s trained with '%s'",
		    name, tokenizer, dir, id);
	else if (!id && tokenizer)
		rc = check_file(dir, tokenizer, name, &there, err);
	if (known)
		*known = tokenizer && (id || there);
out:
	free(id);
	return rc;
}

int
df_model_compute_to_meta(const struct df_model *m, struct df_meta *meta, struct df_err *err)
{
	const enum df_dtype compute = df_backend_compute(df_model_backend(m));

	return compute == DF_F32 ? DF_OK : df_meta_set_str(meta, "compute", df_dtype_name(compute), err);
}

int
df_model_to_meta(struct df_model *m, struct df_meta *meta, struct df_err *err)
{
	struct df_digest d;
	char hex[DF_DIGEST_HEX];
	int rc;

	DF_TRY(df_model_digest(m, &d, err));
	df_digest_hex(d, hex);
	DF_TRY(df_model_compute_to_meta(m, meta, err));
	rc = df_meta_add_input(meta, "checkpoint", "checkpoint", hex, err);
out:
	return rc;
}

int
df_model_check_tokens(const char *dir, const struct df_meta *tokens, const char *name, struct df_err *err)
{
	char *tokenizer = NULL;
	int rc;

	if (!df_meta_get_str(tokens, "tokenizer", &tokenizer))
		return DF_OK;
	rc = df_model_check_tokenizer(dir, tokenizer, name, NULL, err);
	free(tokenizer);
	return rc;
}
