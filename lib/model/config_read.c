/*
 * config_read.c - reading members of config.json, for all families.
 */
#include "model/config_priv.h"

bool
df_config_present(const struct df_json_value *obj, const char *key)
{
	enum df_json_type t = df_json_type(df_json_get(obj, key));

	return t != DF_JSON_ABSENT && t != DF_JSON_NULL;
}

int
df_config_unsupported(const char *key, const char *what, struct df_err *err)
{
	return df_fail(err, DF_EUNSUPPORTED, "'%s': %.100s is not supported", key, what);
}

int
df_config_need_size(const struct df_json_value *root, const char *key, int64_t max, size_t *out, struct df_err *err)
{
	int64_t v = 0;
	int rc;

	if (!df_config_present(root, key))
		return df_fail(err, DF_EFORMAT, "'%s' is missing", key);
	DF_TRY(df_json_member_int(root, key, 0, 1, max, &v, err));
	*out = (size_t)v;
out:
	return rc;
}

int
df_config_opt_size(
    const struct df_json_value *root, const char *key, size_t dflt, int64_t max, size_t *out, struct df_err *err)
{
	if (df_config_present(root, key))
		return df_config_need_size(root, key, max, out, err);
	*out = dflt;
	return DF_OK;
}
