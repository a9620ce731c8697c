/*
 * meta.c - the metadata of a file, and whether two files belong together.
 */
#include "shard/shard_priv.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/opt.h"

void
df_meta_release(struct df_meta *m)
{
	free(m->tool);
	free(m->version);
	for (size_t i = 0; i < m->n_params; i++) {
		free(m->params[i].key);
		free(m->params[i].json);
	}
	for (size_t i = 0; i < m->n_inputs; i++) {
		free(m->inputs[i].role);
		free(m->inputs[i].kind);
		free(m->inputs[i].id);
	}
	for (size_t i = 0; i < m->n_domains; i++)
		free(m->domains[i]);
	for (size_t i = 0; i < m->n_manifest; i++)
		free(m->manifest[i].name);
	free(m->params);
	free(m->inputs);
	free(m->domains);
	free(m->manifest);
	*m = (struct df_meta)DF_META_INIT;
}

int
df_meta_copy(struct df_meta *dst, const struct df_meta *src, struct df_err *err)
{
	struct df_meta m = DF_META_INIT;
	int rc = DF_OK;

	m.kind = src->kind;
	m.has_lineage = src->has_lineage;
	memcpy(m.id, src->id, sizeof(m.id));
	if (src->tool)
		DF_TRY(df_strdup(&m.tool, src->tool, err));
	if (src->version)
		DF_TRY(df_strdup(&m.version, src->version, err));
	for (size_t i = 0; i < src->n_params; i++)
		DF_TRY(df_meta_set_json(&m, src->params[i].key, src->params[i].json, err));
	for (size_t i = 0; i < src->n_inputs; i++)
		DF_TRY(df_meta_add_input(&m, src->inputs[i].role, src->inputs[i].kind, src->inputs[i].id, err));
	for (size_t i = 0; i < src->n_domains; i++)
		DF_TRY(df_meta_add_domain(&m, src->domains[i], NULL, err));
	for (size_t i = 0; i < src->n_manifest; i++)
		DF_TRY(df_meta_add_manifest(&m, src->manifest[i].name, src->manifest[i].offset, src->manifest[i].rows,
		    src->manifest[i].cols, err));
	*dst = m;
	return DF_OK;
out:
	df_meta_release(&m);
	return rc;
}

int
df_meta_set_tool(struct df_meta *m, const char *tool, struct df_err *err)
{
	int rc;

	free(m->tool);
	free(m->version);
	m->tool = m->version = NULL;
	DF_TRY(df_strdup(&m->tool, tool, err));
	DF_TRY(df_strdup(&m->version, DF_VERSION, err));
out:
	return rc;
}

int
df_meta_set_json(struct df_meta *m, const char *key, const char *json, struct df_err *err)
{
	char *k = NULL, *v = NULL;
	int rc;

	DF_TRY(df_strdup(&v, json, err));
	for (size_t i = 0; i < m->n_params; i++) {
		if (strcmp(m->params[i].key, key) == 0) {
			free(m->params[i].json);
			m->params[i].json = v;
			return DF_OK;
		}
	}
	DF_TRY(df_strdup(&k, key, err));
	DF_TRY(df_grow(&m->params, &m->cap_params, m->n_params + 1, sizeof(*m->params), "parameters", err));
	m->params[m->n_params++] = (struct df_param_kv){ k, v };
	return DF_OK;
out:
	free(k);
	free(v);
	return rc;
}

/* Takes ownership of the text in b. */
static int
set_text(struct df_meta *m, const char *key, struct df_buf *b, struct df_err *err)
{
	int rc;

	DF_TRY(df_buf_check(b, err));
	DF_TRY(df_meta_set_json(m, key, b->data, err));
out:
	df_buf_release(b);
	return rc;
}

int
df_meta_set_str(struct df_meta *m, const char *key, const char *value, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;

	df_buf_json_str(&b, value);
	return set_text(m, key, &b, err);
}

int
df_meta_set_int(struct df_meta *m, const char *key, int64_t value, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;

	df_buf_printf(&b, "%lld", (long long)value);
	return set_text(m, key, &b, err);
}

int
df_meta_set_double(struct df_meta *m, const char *key, double value, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;

	df_buf_json_double(&b, value);
	return set_text(m, key, &b, err);
}

int
df_meta_set_bool(struct df_meta *m, const char *key, bool value, struct df_err *err)
{
	return df_meta_set_json(m, key, value ? "true" : "false", err);
}

int
df_meta_copy_param(struct df_meta *to, const struct df_meta *from, const char *key, struct df_err *err)
{
	const char *json = df_meta_param(from, key);

	return json ? df_meta_set_json(to, key, json, err) : DF_OK;
}

const char *
df_meta_param(const struct df_meta *m, const char *key)
{
	for (size_t i = 0; i < m->n_params; i++)
		if (strcmp(m->params[i].key, key) == 0)
			return m->params[i].json;
	return NULL;
}

bool
df_meta_get_double(const struct df_meta *m, const char *key, double *v)
{
	const char *json = df_meta_param(m, key);

	return json && (*json == '-' || (*json >= '0' && *json <= '9')) && df_parse_double(json, v, NULL) == DF_OK;
}

bool
df_meta_get_str(const struct df_meta *m, const char *key, char **s)
{
	const char *json = df_meta_param(m, key), *text;
	struct df_json *doc = NULL;
	bool ok;

	if (!json || df_json_parse(&doc, json, strlen(json), key, NULL) != DF_OK)
		return false;
	text = df_json_str(df_json_root(doc), NULL);
	ok = text && df_strdup(s, text, NULL) == DF_OK;
	df_json_free(doc);
	return ok;
}

int
df_meta_add_input(struct df_meta *m, const char *role, const char *kind, const char *id, struct df_err *err)
{
	struct df_input in = { NULL, NULL, NULL };
	int rc;

	DF_TRY(df_strdup(&in.role, role, err));
	DF_TRY(df_strdup(&in.kind, kind, err));
	DF_TRY(df_strdup(&in.id, id, err));
	DF_TRY(df_grow(&m->inputs, &m->cap_inputs, m->n_inputs + 1, sizeof(in), "inputs", err));
	m->inputs[m->n_inputs++] = in;
	return DF_OK;
out:
	free(in.role);
	free(in.kind);
	free(in.id);
	return rc;
}

const struct df_input *
df_meta_input(const struct df_meta *m, const char *role)
{
	for (size_t i = 0; i < m->n_inputs; i++)
		if (strcmp(m->inputs[i].role, role) == 0)
			return &m->inputs[i];
	return NULL;
}

int
df_meta_copy_input(struct df_meta *to, const struct df_meta *from, const char *role, struct df_err *err)
{
	const struct df_input *in = df_meta_input(from, role);

	return in ? df_meta_add_input(to, in->role, in->kind, in->id, err) : DF_OK;
}

int
df_meta_add_domain(struct df_meta *m, const char *name, uint16_t *index, struct df_err *err)
{
	char *copy = NULL;
	int rc;

	if (m->n_domains > UINT16_MAX)
		return df_fail(err, DF_ERANGE, "more than 65536 domains");
	DF_TRY(df_strdup(&copy, name, err));
	DF_TRY(df_grow(&m->domains, &m->cap_domains, m->n_domains + 1, sizeof(*m->domains), "domains", err));
	if (index)
		*index = (uint16_t)m->n_domains;
	m->domains[m->n_domains++] = copy;
	return DF_OK;
out:
	free(copy);
	return rc;
}

int
df_meta_add_manifest(
    struct df_meta *m, const char *name, uint64_t offset, uint64_t rows, uint64_t cols, struct df_err *err)
{
	char *copy = NULL;
	int rc;

	DF_TRY(df_strdup(&copy, name, err));
	DF_TRY(df_grow(&m->manifest, &m->cap_manifest, m->n_manifest + 1, sizeof(*m->manifest), "manifest", err));
	m->manifest[m->n_manifest++] = (struct df_manifest_row){ copy, offset, rows, cols };
	return DF_OK;
out:
	free(copy);
	return rc;
}

static int
differ(struct df_err *err, const char *a_name, const char *a, const char *b_name, const char *b, const char *what,
    const char *which)
{
	return df_fail(err, DF_ELINEAGE, "%s and %s do not belong together: %s '%s' is %s in one and %s in the other",
	    a_name, b_name, what, which, a ? a : "absent", b ? b : "absent");
}

static bool
same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

int
df_meta_agree(const struct df_meta *a, const char *a_name, const struct df_meta *b, const char *b_name,
    const char *const *params, const char *const *roles, struct df_err *err)
{
	if (!a->has_lineage || !b->has_lineage)
		return DF_OK;
	for (; params && *params; params++) {
		const char *va = df_meta_param(a, *params), *vb = df_meta_param(b, *params);

		if (!same_text(va, vb))
			return differ(err, a_name, va, b_name, vb, "parameter", *params);
	}
	for (; roles && *roles; roles++) {
		const struct df_input *ia = df_meta_input(a, *roles), *ib = df_meta_input(b, *roles);

		if (!same_text(ia ? ia->id : NULL, ib ? ib->id : NULL))
			return differ(err, a_name, ia ? ia->id : NULL, b_name, ib ? ib->id : NULL, "input", *roles);
	}
	return DF_OK;
}

static bool
is_compared(const char *key)
{
	return strcmp(key, DF_META_BASE_TOKENIZER) != 0 &&
	    strncmp(key, DF_META_ADDED_TOKEN, sizeof(DF_META_ADDED_TOKEN) - 1) != 0;
}

int
df_meta_same(
    const struct df_meta *a, const char *a_name, const struct df_meta *b, const char *b_name, struct df_err *err)
{
	if (a->kind != b->kind)
		return df_fail(err, DF_EFORMAT, "%s holds %s, but %s holds %s", a_name, df_kind_name(a->kind), b_name,
		    df_kind_name(b->kind));
	for (size_t i = 0; i < a->n_params + b->n_params; i++) {
		const char *key = i < a->n_params ? a->params[i].key : b->params[i - a->n_params].key;
		const char *va = df_meta_param(a, key), *vb = df_meta_param(b, key);

		if (is_compared(key) && !same_text(va, vb))
			return differ(err, a_name, va, b_name, vb, "parameter", key);
	}
	for (size_t i = 0; i < a->n_inputs || i < b->n_inputs; i++) {
		const struct df_input *ia = i < a->n_inputs ? &a->inputs[i] : NULL;
		const struct df_input *ib = i < b->n_inputs ? &b->inputs[i] : NULL;

		if (!ia || !ib || !same_text(ia->id, ib->id) || !same_text(ia->role, ib->role))
			return differ(err, a_name, ia ? ia->id : NULL, b_name, ib ? ib->id : NULL, "input",
			    ia ? ia->role : ib->role);
	}
	for (size_t i = 0; i < a->n_domains || i < b->n_domains; i++) {
		const char *da = i < a->n_domains ? a->domains[i] : NULL, *db = i < b->n_domains ? b->domains[i] : NULL;

		if (!same_text(da, db))
			return df_fail(err, DF_ELINEAGE,
			    "%s and %s do not belong together: domain %zu is '%s' in one and '%s' in the other", a_name,
			    b_name, i, da ? da : "(none)", db ? db : "(none)");
	}
	for (size_t i = 0; i < a->n_manifest || i < b->n_manifest; i++) {
		const struct df_manifest_row *ma = i < a->n_manifest ? &a->manifest[i] : NULL;
		const struct df_manifest_row *mb = i < b->n_manifest ? &b->manifest[i] : NULL;

		if (!ma || !mb || strcmp(ma->name, mb->name) != 0 || ma->offset != mb->offset || ma->rows != mb->rows ||
		    ma->cols != mb->cols)
			return df_fail(err, DF_ELINEAGE,
			    "%s and %s do not belong together: their gradients differ at parameter '%s'", a_name,
			    b_name, ma ? ma->name : mb->name);
	}
	return DF_OK;
}
