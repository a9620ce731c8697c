/*
 * config_rope.c - the rotary embedding in config.json.
 *
 * transformers 4 writes rope_theta and, unless the type is the default, rope_scaling; transformers 5
 * writes one object, rope_parameters.  The older name of the type's key is "type".  The parameters
 * that a type needs must be there: nothing falls back to a default silently.
 */
#include <math.h>
#include <string.h>

#include "model/config_priv.h"

static const char *const type_names[] = { [DF_ROPE_DEFAULT] = "default",
	[DF_ROPE_LINEAR] = "linear",
	[DF_ROPE_DYNAMIC] = "dynamic",
	[DF_ROPE_LLAMA3] = "llama3",
	[DF_ROPE_YARN] = "yarn" };
#define N_TYPES (sizeof(type_names) / sizeof(type_names[0]))

static int
read_type(struct df_rope_config *r, const struct df_json_value *o, const char *key, struct df_err *err)
{
	const char *type, *old;
	int rc;

	DF_TRY(df_json_member_str(o, "rope_type", NULL, &type, err));
	DF_TRY(df_json_member_str(o, "type", type ? type : "default", &old, err));
	if (type == NULL && !df_config_present(o, "type") && df_config_present(o, "factor"))
		return df_fail(err, DF_EFORMAT, "'%s': a 'factor', but no 'rope_type'", key);
	if (type != NULL && strcmp(type, old) != 0)
		return df_fail(err, DF_EUNSUPPORTED, "'%s': both rope type '%.64s' and type '%.64s'", key, type, old);
	for (size_t i = 0; i < N_TYPES; i++) {
		if (strcmp(old, type_names[i]) == 0) {
			r->type = (enum df_rope_type)i;
			return DF_OK;
		}
	}
	rc = df_fail(err, DF_EUNSUPPORTED,
	    "'%s': rope type '%.64s' is not supported (default, linear, dynamic, llama3 and yarn are)", key, old);
out:
	return rc;
}

/* A number of the object, greater than `above`; a default of NaN means that it must be there. */
static int
number(const struct df_json_value *o, const char *key, const char *name, double dflt, double above, double *out,
    struct df_err *err)
{
	int rc;

	if (isnan(dflt) && !df_config_present(o, name))
		return df_fail(err, DF_EFORMAT, "'%s.%s' is missing", key, name);
	DF_TRY(df_json_member_double(o, name, dflt, out, err));
	if (!(*out > above) || !isfinite(*out))
		return df_fail(err, DF_ERANGE, "'%s.%s': %g is not above %g", key, name, *out, above);
out:
	return rc;
}

static int
original_positions(
    struct df_model_config *c, const struct df_json_value *o, bool need, const char *key, struct df_err *err)
{
	int64_t n;
	int rc;

	if (need && !df_config_present(o, "original_max_position_embeddings"))
		return df_fail(err, DF_EFORMAT, "'%s.original_max_position_embeddings' is missing", key);
	DF_TRY(df_json_member_int(
	    o, "original_max_position_embeddings", (int64_t)c->max_positions, 1, (int64_t)1 << 31, &n, err));
	c->rope.original_max_positions = (size_t)n;
out:
	return rc;
}

static double
mscale(double factor, double scale)
{
	return factor <= 1 ? 1 : 0.1 * scale * log(factor) + 1;
}

/* Peng et al. 2023; the attention factor multiplies cos and sin. */
static int
read_yarn(struct df_model_config *c, const struct df_json_value *o, const char *key, struct df_err *err)
{
	struct df_rope_config *r = &c->rope;
	double m, all;
	int rc;

	DF_TRY(original_positions(c, o, false, key, err));
	DF_TRY(number(o, key, "beta_fast", 32, 0, &r->beta_fast, err));
	DF_TRY(number(o, key, "beta_slow", 1, 0, &r->beta_slow, err));
	DF_TRY(df_json_member_bool(o, "truncate", true, &r->truncate, err));
	DF_TRY(df_json_member_double(o, "mscale", 0, &m, err));
	DF_TRY(df_json_member_double(o, "mscale_all_dim", 0, &all, err));
	r->attention_factor = m != 0 && all != 0 ? mscale(r->factor, m) / mscale(r->factor, all) : mscale(r->factor, 1);
	DF_TRY(df_json_member_double(o, "attention_factor", r->attention_factor, &r->attention_factor, err));
	if (!(r->attention_factor > 0) || !isfinite(r->attention_factor))
		return df_fail(err, DF_ERANGE, "'%s.attention_factor': %g is not above 0", key, r->attention_factor);
	if (!(r->theta > 1))
		return df_fail(err, DF_ERANGE, "'rope_theta': %g is not above 1", r->theta);
out:
	return rc;
}

static int
read_object(struct df_model_config *c, const struct df_json_value *root, const char *key, struct df_err *err)
{
	const struct df_json_value *o = df_json_get(root, key), *v;
	const struct df_json_member *m = NULL;
	struct df_rope_config *r = &c->rope;
	double partial;
	const char *k;
	int rc = DF_OK;

	if (!df_config_present(root, key))
		return DF_OK;
	if (df_json_type(o) != DF_JSON_OBJECT)
		return df_fail(err, DF_EFORMAT, "'%s': expected an object, found %s", key, df_json_type_name(o));
	while ((m = df_json_next(o, m, &k, &v)) != NULL) {
		if (df_json_type(v) == DF_JSON_OBJECT)
			return df_fail(err, DF_EUNSUPPORTED,
			    "'%s.%.64s': rope parameters by layer type are not supported", key, k);
	}
	DF_TRY(read_type(r, o, key, err));
	DF_TRY(df_json_member_double(o, "partial_rotary_factor", 1.0, &partial, err));
	if (partial != 1.0)
		return df_fail(err, DF_EUNSUPPORTED, "'%s.partial_rotary_factor': only 1 is supported", key);
	DF_TRY(df_json_member_double(o, "rope_theta", r->theta, &r->theta, err));
	if (r->type != DF_ROPE_DEFAULT)
		DF_TRY(number(o, key, "factor", NAN, 0, &r->factor, err));
	if (r->type == DF_ROPE_LLAMA3) {
		DF_TRY(original_positions(c, o, true, key, err));
		DF_TRY(number(o, key, "low_freq_factor", NAN, 0, &r->low_freq_factor, err));
		DF_TRY(number(o, key, "high_freq_factor", NAN, r->low_freq_factor, &r->high_freq_factor, err));
	}
	if (r->type == DF_ROPE_YARN)
		DF_TRY(read_yarn(c, o, key, err));
	/* The base grows by the power dim / (dim - 2); a factor below 1 would make it negative. */
	if (r->type == DF_ROPE_DYNAMIC && (c->d_head == 2 || r->factor < 1))
		return df_config_unsupported(key, "dynamic scaling of heads of 2, or by less than 1,", err);
out:
	return rc;
}

int
df_config_read_rope(struct df_model_config *c, const struct df_json_value *root, double theta, struct df_err *err)
{
	double partial;
	int rc;

	c->rope = (struct df_rope_config){ .type = DF_ROPE_DEFAULT, .factor = 1, .attention_factor = 1 };
	c->rope.original_max_positions = c->max_positions;
	DF_TRY(df_json_member_double(root, "rope_theta", theta, &c->rope.theta, err));
	DF_TRY(read_object(c, root, "rope_scaling", err));
	DF_TRY(read_object(c, root, "rope_parameters", err));
	DF_TRY(df_json_member_double(root, "partial_rotary_factor", 1.0, &partial, err));
	if (partial != 1.0)
		return df_fail(err, DF_EUNSUPPORTED, "'partial_rotary_factor': only 1 is supported");
	if (!(c->rope.theta >= 1.0) || !isfinite(c->rope.theta))
		return df_fail(err, DF_ERANGE, "'rope_theta': %g is not a number from 1 on", c->rope.theta);
out:
	return rc;
}
