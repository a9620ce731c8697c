/*
 * check_tokenizer.c - which tokenizer a model belongs to: the one that df-train noted, or else the one that lies in its
 * directory.  Ids of tokenizers are digests of what they do, not of files, so that a file written anew is the same.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/model.h"
#include "model/trained.h"
#include "token/tokenizer.h"

/* *id = that of dir/tokenizer.json; NULL: there is none. */
static int
open_tokenizer(char **id, const char *dir, struct df_err *err)
{
	struct df_tokenizer *t = NULL;
	char *path = NULL;
	bool there;
	int rc;

	DF_TRY(df_path_join(&path, dir, "tokenizer.json", err));
	DF_TRY(df_file_probe(path, &there, err));
	if (!there)
		goto out;
	DF_TRY(df_tokenizer_open(&t, dir, err));
	DF_TRY(df_strdup(id, df_tokenizer_id(t), err));
out:
	df_tokenizer_free(t);
	free(path);
	return rc;
}

int
df_model_check_tokenizer(const char *dir, const char *tokenizer, const char *name, struct df_err *err)
{
	char *id = NULL;
	int rc;

	DF_TRY(df_trained_tokenizer(&id, dir, err));
	if (id && tokenizer && strcmp(id, tokenizer))
		rc = df_fail(err, DF_ELINEAGE, "%s was made with tokenizer '%s', the checkpoint %s trained with '%s'",
		    name, tokenizer, dir, id);
	if (id || !tokenizer)
		goto out;
	DF_TRY(open_tokenizer(&id, dir, err));
	if (id && strcmp(id, tokenizer))
		rc = df_fail(
		    err, DF_ELINEAGE, "%s was made with tokenizer '%s', that of %s is '%s'", name, tokenizer, dir, id);
out:
	free(id);
	return rc;
}

int
df_model_check_tokens(const char *dir, const struct df_meta *tokens, const char *name, struct df_err *err)
{
	char *tokenizer = NULL;
	int rc;

	if (!df_meta_get_str(tokens, "tokenizer", &tokenizer))
		return DF_OK;
	rc = df_model_check_tokenizer(dir, tokenizer, name, err);
	free(tokenizer);
	return rc;
}
