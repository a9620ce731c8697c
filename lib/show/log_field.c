/*
 * log_field.c - the numbers of a log's lines.
 */
#include <math.h>

#include "show/log.h"

int
df_log_number(
    const struct df_json_value *line, const char *key, double min, bool may_lack, double *out, struct df_err *err)
{
	const struct df_json_value *v = df_json_get(line, key);

	*out = NAN;
	if (may_lack && (df_json_type(v) == DF_JSON_ABSENT || df_json_type(v) == DF_JSON_NULL))
		return DF_OK;
	if (!v)
		return df_fail(err, DF_EFORMAT, "'%s' is missing", key);
	if (!df_json_number(v, out))
		return df_fail(err, DF_EFORMAT, "'%s' is %s, not a number", key, df_json_type_name(v));
	if (!isfinite(*out) || *out < min)
		return df_fail(err, DF_EFORMAT, "'%s' is %g, which is impossible", key, *out);
	return DF_OK;
}
