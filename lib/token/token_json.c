/*
 * token_json.c - the parts of a tokenizer.json are objects with a "type".
 */
#include "token/token_priv.h"

int
df_tok_type_of(const struct df_json_value *v, const char *what, const char **type, struct df_err *err)
{
	int rc;

	if (df_json_type(v) != DF_JSON_OBJECT)
		return df_fail(err, DF_EFORMAT, "%s: expected an object, found %s", what, df_json_type_name(v));
	DF_TRY(df_json_member_str(v, "type", NULL, type, err));
	if (*type == NULL)
		rc = df_fail(err, DF_EFORMAT, "has no 'type'");
out:
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", what);
	return rc;
}
