/*
 * lora.c - low-rank adapters in PEFT's layout (Hu et al. 2021).
 *
 *	y = W x + s B (A x),   A [r,in], B [out,r], s = alpha / r  (rsLoRA: alpha / sqrt(r))
 *
 * The projections to adapt are named as in PEFT: by names that a module's whole name ends with, or by
 * one pattern that matches the whole name. modules_to_save are trained as a whole, in addition to the
 * adapters.  Modules may have ranks and alphas of their own (lora_pattern.c).
 *
 * adapter_config.json is read with the same rule as config.json: a key that would change the arithmetic
 * and is not implemented is refused by its name; keys of other versions that change nothing are skipped.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/words.h"
#include "model/model_priv.h"

#define RANK_MAX 65536

/* ---- names ------------------------------------------------------------------- */

/* PEFT: the module's whole name, or the end of it after a dot. */
static bool
ends_with_module(const char *module, size_t n, const char *name, size_t k)
{
	return n >= k && memcmp(module + n - k, name, k) == 0 && (n == k || module[n - k - 1] == '.');
}

/* PEFT's modules_to_save: any end of the name. */
static bool
ends_with(const char *module, size_t n, const char *name, size_t k)
{
	return n >= k && memcmp(module + n - k, name, k) == 0;
}

/* Visit every projection of every layer; false from fn ends the walk. */
typedef bool each_part(void *ctx, struct df_model *m, struct df_part *t, const char *module, size_t n);

static bool
for_parts(struct df_model *m, each_part *fn, void *ctx)
{
	struct df_group *g;

	for (size_t i = 0; i < m->cfg.n_layers; i++) {
		for (size_t k = 0; (g = df_layer_group(&m->layers[i], k)) != NULL; k++) {
			for (size_t j = 0; j < g->n_parts; j++) {
				size_t n;
				const char *module = df_param_module(&m->base.v[g->part[j].weight], &n);

				if (!fn(ctx, m, &g->part[j], module, n))
					return false;
			}
		}
	}
	return true;
}

static bool
is_gate(const char *module, size_t n)
{
	return ends_with_module(module, n, "gate", 4) || ends_with_module(module, n, "shared_expert_gate", 18);
}

/* A set of names, being collected. */
struct names {
	const char *v[64];
	size_t len[64], n;
	bool gates;
};

static bool
collect(void *ctx, struct df_model *m, struct df_part *t, const char *module, size_t n)
{
	struct names *s = ctx;
	const char *dot = module;
	size_t k;

	(void)m;
	(void)t;
	if (!s->gates && is_gate(module, n))
		return true;
	for (size_t i = 0; i < n; i++) {
		if (module[i] == '.')
			dot = module + i + 1;
	}
	k = n - (size_t)(dot - module);
	for (size_t i = 0; i < s->n; i++) {
		if (s->len[i] == k && memcmp(s->v[i], dot, k) == 0)
			return true;
	}
	if (s->n < sizeof(s->v) / sizeof(s->v[0])) {
		s->v[s->n] = dot;
		s->len[s->n++] = k;
	}
	return true;
}

static int
by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* list = its entries, sorted, each once, with commas between them: as PEFT writes them. */
static int
sort_list(char **list, struct df_err *err)
{
	struct df_buf out = DF_BUF_INIT;
	const char *s = *list, *name;
	char **v = NULL;
	size_t n = 0, cap = 0, k;
	int rc = DF_OK;

	while (df_next_name(&s, &name, &k)) {
		DF_TRY(df_grow(&v, &cap, n + 1, sizeof(*v), "a list of names", err));
		v[n] = strndup(name, k);
		if (v[n++] == NULL) {
			rc = df_fail(err, DF_ENOMEM, "a list of names");
			goto out;
		}
	}
	if (n > 0)
		qsort(v, n, sizeof(*v), by_text);
	for (size_t i = 0; i < n; i++) {
		if (i == 0 || strcmp(v[i], v[i - 1]) != 0) {
			df_buf_puts(&out, i ? "," : "");
			df_buf_puts(&out, v[i]);
		}
	}
	df_buf_puts(&out, "");
	DF_TRY(df_buf_check(&out, err));
	free(*list);
	*list = df_buf_detach(&out);
out:
	for (size_t i = 0; i < n; i++)
		free(v[i]);
	free(v);
	df_buf_release(&out);
	return rc;
}

static int
all_projections(struct df_model *m, bool gates, struct df_buf *b, const char *comma, struct df_err *err)
{
	struct names s = { .gates = gates };

	(void)for_parts(m, collect, &s);
	for (size_t i = 0; i < s.n; i++) {
		df_buf_puts(b, i ? comma : "");
		df_buf_add(b, s.v[i], s.len[i]);
	}
	return df_buf_check(b, err);
}

int
df_lora_set_targets(struct df_model *m, const char *targets, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	const char *s = targets, *name;
	size_t n;
	int rc = DF_OK;

	while (df_next_name(&s, &name, &n)) {
		df_buf_puts(&b, b.len > 0 ? "," : "");
		if (n == 3 && strncmp(name, "all", 3) == 0)
			DF_TRY(all_projections(m, false, &b, ",", err));
		else
			df_buf_add(&b, name, n);
	}
	DF_TRY(df_buf_check(&b, err));
	if (b.len == 0) {
		rc = df_fail(err, DF_ECONFIG, "no LoRA targets are given");
		goto out;
	}
	free(m->targets);
	m->targets = df_buf_detach(&b);
	m->target_pattern = false;
	DF_TRY(sort_list(&m->targets, err));
out:
	df_buf_release(&b);
	return rc;
}

/* ---- the modules that the names mean ------------------------------------------- */

struct wanted {
	const char *name;
	size_t n;
	struct df_name_pattern *pattern; /* or NULL: `word` is a name */
	const bool *trains;              /* [base.n] rows of modules_to_save: they have no adapter */
	size_t found;
};

/* Mark a projection whose name is wanted. */
static bool
mark(void *ctx, struct df_model *m, struct df_part *t, const char *module, size_t n)
{
	struct wanted *w = ctx;
	bool hit;

	(void)m;
	if (w->pattern != NULL) {
		int fits = df_name_pattern_fits(w->pattern, module, n);

		if (fits < 0)
			return false;
		hit = fits > 0;
	} else {
		hit = ends_with_module(module, n, w->name, w->n);
	}
	w->found += hit;
	if (hit && !w->trains[t->weight])
		t->a = 0;
	return true;
}

static bool
unmark(void *ctx, struct df_model *m, struct df_part *t, const char *module, size_t n)
{
	(void)ctx;
	(void)m;
	(void)module;
	(void)n;
	t->a = t->b = DF_NO_ROW;
	return true;
}

/* No projection has this name. */
static int
nothing_named(struct df_model *m, const char *name, size_t n, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	const char *near = NULL;
	char *word = NULL, *rest = NULL;
	size_t dist = SIZE_MAX;
	int rc;

	DF_TRY(all_projections(m, true, &b, ", ", err));
	DF_TRY(df_strndup(&word, name, n < 100 ? n : 100, err));
	rc = df_fail(err, DF_EUNSUPPORTED, "LoRA's target_modules: '%s' cannot be adapted (%s or all can)", word,
	    b.data ? b.data : "");
	for (char *s = b.data ? strtok_r(b.data, ", ", &rest) : NULL; s; s = strtok_r(NULL, ", ", &rest))
		df_nearer(word, s, &near, &dist);
	if (near)
		df_err_suffix(err, "; did you mean '%s'?", near);
out:
	df_buf_release(&b);
	free(word);
	return rc;
}

static int
mark_pattern(struct df_model *m, const bool *trains, struct df_err *err)
{
	struct wanted w = { .trains = trains };
	int rc;

	DF_TRY(df_name_pattern_new(&w.pattern, m->targets, "target_modules", err));
	if (!for_parts(m, mark, &w))
		rc = df_fail(
		    err, DF_EUNSUPPORTED, "'target_modules': the pattern '%.100s' takes too long to match", m->targets);
	else if (w.found == 0)
		rc = df_fail(
		    err, DF_EUNSUPPORTED, "'target_modules': the pattern '%.100s' fits no projection", m->targets);
out:
	df_name_pattern_free(w.pattern);
	return rc;
}

static int
mark_list(struct df_model *m, const bool *trains, struct df_err *err)
{
	const char *s = m->targets;
	struct wanted w = { .trains = trains };
	int rc = DF_OK;

	while (df_next_name(&s, &w.name, &w.n)) {
		w.found = 0;
		(void)for_parts(m, mark, &w);
		if (w.found == 0)
			DF_TRY(nothing_named(m, w.name, w.n, err));
	}
out:
	return rc;
}

/* trains [base.n] = the rows of modules_to_save. */
static int
mark_additional(const struct df_model *m, bool *trains, struct df_err *err)
{
	const char *s = m->additional != NULL ? m->additional : "", *name;
	size_t k;

	while (df_next_name(&s, &name, &k)) {
		size_t found = 0;

		for (size_t i = 0; i < m->base.n; i++) {
			size_t n;
			const char *module = df_param_module(&m->base.v[i], &n);

			if (!ends_with(module, n, name, k))
				continue;
			/* PEFT would train a copy and untie embedding and head. */
			if (i == m->embed && m->cfg.tied)
				return df_fail(err, DF_EUNSUPPORTED,
				    "modules_to_save: '%.*s' is one table with the head (tie_word_embeddings)",
				    (int)(k < 100 ? k : 100), name);
			trains[i] = true;
			found++;
		}
		if (found == 0)
			return df_fail(err, DF_EUNSUPPORTED, "modules_to_save: no weights are named '%.*s'%s",
			    (int)(k < 100 ? k : 100), name,
			    m->cfg.tied && k == 7 && strncmp(name, "lm_head", 7) == 0
				? ": the head is the embedding (tie_word_embeddings)"
				: "");
	}
	return DF_OK;
}

int
df_lora_attach(struct df_model *m, struct df_err *err)
{
	bool *trains = NULL;
	int rc;

	if (m->rank == 0 || m->rank > RANK_MAX)
		return df_fail(err, DF_ERANGE, "a LoRA rank of %zu is not in [1, %d]", m->rank, RANK_MAX);
	if (!isfinite(m->alpha) || m->alpha <= 0)
		return df_fail(err, DF_ERANGE, "a LoRA alpha of %g is not a positive number", m->alpha);
	if (!(m->lora_dropout >= 0 && m->lora_dropout < 1))
		return df_fail(err, DF_ERANGE, "a LoRA dropout of %g is not in [0, 1)", m->lora_dropout);
	m->lora_scale = (float)(m->alpha / (m->rslora ? sqrt((double)m->rank) : (double)m->rank));
	DF_TRY(df_alloc(&trains, m->base.n, sizeof(*trains), "the parameter table", err));
	DF_TRY(mark_additional(m, trains, err));
	(void)for_parts(m, unmark, NULL);
	DF_TRY(m->target_pattern ? mark_pattern(m, trains, err) : mark_list(m, trains, err));
	DF_TRY(df_lora_set_scales(m, err));
	m->lora = true;
	DF_TRY(df_params_build_train(m, trains, err));
	DF_TRY(df_model_master(m, err));
out:
	free(trains);
	return rc;
}

/* ---- adapter_config.json --------------------------------------------------- */

static bool
empty(const struct df_json_value *v)
{
	switch (df_json_type(v)) {
	case DF_JSON_ABSENT:
	case DF_JSON_NULL: return true;
	case DF_JSON_BOOL: return !df_json_bool(v, false);
	case DF_JSON_ARRAY:
	case DF_JSON_OBJECT: return df_json_size(v) == 0;
	default: return false;
	}
}

/* *out = a list of strings with commas between them, or NULL where there is none. */
static int
read_list(const struct df_json_value *v, char **out, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	int rc = DF_OK;

	free(*out);
	*out = NULL;
	if (empty(v))
		return DF_OK;
	if (df_json_type(v) != DF_JSON_ARRAY)
		return df_fail(err, DF_EFORMAT, "expected a list, found %s", df_json_type_name(v));
	for (size_t i = 0; i < df_json_size(v); i++) {
		const char *s = df_json_str(df_json_at(v, i), NULL);

		if (s == NULL || *s == '\0' || s[strcspn(s, ", \t")] != '\0') {
			rc = df_fail(err, DF_EFORMAT, "entry %zu is not a module's name", i);
			goto out;
		}
		df_buf_puts(&b, i ? "," : "");
		df_buf_puts(&b, s);
	}
	DF_TRY(df_buf_check(&b, err));
	*out = df_buf_detach(&b);
	DF_TRY(sort_list(out, err));
out:
	df_buf_release(&b);
	return rc;
}

static int
read_targets(struct df_model *m, const struct df_json_value *v, struct df_err *err)
{
	const char *s = df_json_str(v, NULL);
	struct df_buf b = DF_BUF_INIT;
	int rc = DF_OK;

	m->target_pattern = s != NULL && strcmp(s, "all-linear") != 0;
	if (s == NULL) {
		rc = read_list(v, &m->targets, err);
		if (rc == DF_OK && m->targets == NULL)
			rc = df_fail(err, DF_EFORMAT, "expected a list, found %s", df_json_type_name(v));
		goto out;
	}
	free(m->targets);
	m->targets = NULL;
	if (m->target_pattern)
		df_buf_puts(&b, s);
	else
		DF_TRY(all_projections(m, true, &b, ",", err));
	DF_TRY(df_buf_check(&b, err));
	m->targets = df_buf_detach(&b);
	if (!m->target_pattern)
		DF_TRY(sort_list(&m->targets, err));
out:
	df_buf_release(&b);
	if (rc != DF_OK)
		df_err_prefix(err, "'target_modules': ");
	return rc;
}

/* ---- layers_to_transform, exclude_modules ------------------------------------------ */

/* The modules that remain of target_modules after the keys that restrict them. */
struct restriction {
	const struct df_json_value *layers;         /* a number or a list of them; NULL: all */
	const struct df_json_value *layers_pattern; /* the name's part before a layer's number, or a list; NULL: any */
	struct df_name_pattern *target, *exclude;   /* where these keys are patterns, else NULL */
	char *excluded;                             /* NULL, or a list of names where exclude_modules is one */
	struct df_buf names;                        /* full names of the modules that remain */
	bool slow;
};

static bool
layer_is_in(const struct df_json_value *layers, int64_t layer)
{
	int64_t x;

	if (df_json_type(layers) != DF_JSON_ARRAY)
		return df_json_int(layers, &x) && x == layer;
	for (size_t i = 0; i < df_json_size(layers); i++) {
		if (df_json_int(df_json_at(layers, i), &x) && x == layer)
			return true;
	}
	return false;
}

static bool
in_layers(const struct restriction *r, const char *module, size_t n)
{
	int64_t layer;

	if (r->layers == NULL)
		return true;
	if (r->layers_pattern == NULL)
		return df_module_layer(module, n, NULL, &layer) && layer_is_in(r->layers, layer);
	if (df_json_type(r->layers_pattern) == DF_JSON_STR)
		return df_module_layer(module, n, df_json_str(r->layers_pattern, NULL), &layer) &&
		    layer_is_in(r->layers, layer);
	for (size_t i = 0; i < df_json_size(r->layers_pattern); i++) {
		if (df_module_layer(module, n, df_json_str(df_json_at(r->layers_pattern, i), NULL), &layer))
			return layer_is_in(r->layers, layer);
	}
	return false;
}

static bool
is_listed(const char *list, const char *module, size_t n, bool *in_full)
{
	const char *name;
	bool found = false;
	size_t k;

	*in_full = false;
	while (list != NULL && df_next_name(&list, &name, &k)) {
		if (!ends_with_module(module, n, name, k))
			continue;
		found = true;
		*in_full |= k == n;
	}
	return found;
}

/*
 * As in PEFT: exclude_modules always applies; a module that is named in full is kept whatever layers_to_transform says.
 */
static bool
keep_restricted(void *ctx, struct df_model *m, struct df_part *t, const char *module, size_t n)
{
	struct restriction *r = ctx;
	bool in_full = false, wanted;
	int target = 0, exclude = 0;

	(void)t;
	if (r->target != NULL)
		target = df_name_pattern_fits(r->target, module, n);
	if (r->exclude != NULL)
		exclude = df_name_pattern_fits(r->exclude, module, n);
	r->slow = target < 0 || exclude < 0;
	if (r->slow)
		return false;
	if (exclude > 0 || is_listed(r->excluded, module, n, &in_full))
		return true;
	wanted = r->target != NULL ? target > 0
				   : is_listed(m->targets, module, n, &in_full) && (in_full || in_layers(r, module, n));
	if (wanted) {
		df_buf_puts(&r->names, r->names.len > 0 ? "," : "");
		df_buf_add(&r->names, module, n);
	}
	return true;
}

static bool
count_named(void *ctx, struct df_model *m, struct df_part *t, const char *module, size_t n)
{
	struct wanted *w = ctx;

	(void)m;
	(void)t;
	w->found += ends_with_module(module, n, w->name, w->n);
	return true;
}

/* Every name must be the name of some projection, even if the restrictions leave none of its modules. */
static int
check_names(struct df_model *m, struct df_err *err)
{
	const char *s = m->targets;
	struct wanted w = { .found = 0 };
	int rc = DF_OK;

	while (df_next_name(&s, &w.name, &w.n)) {
		w.found = 0;
		(void)for_parts(m, count_named, &w);
		if (w.found == 0)
			DF_TRY(nothing_named(m, w.name, w.n, err));
	}
out:
	return rc;
}

static int
check_layers(struct restriction *r, const struct df_model *m, const struct df_json_value *cfg, struct df_err *err)
{
	const struct df_json_value *layers = df_json_get(cfg, "layers_to_transform"),
				   *parts = df_json_get(cfg, "layers_pattern");
	const bool many = df_json_type(parts) == DF_JSON_ARRAY;

	if (empty(layers))
		return DF_OK;
	if (m->target_pattern)
		return df_fail(err, DF_EFORMAT, "'layers_to_transform' beside a pattern as 'target_modules'");
	for (size_t i = 0; i < (df_json_type(layers) == DF_JSON_ARRAY ? df_json_size(layers) : 1); i++) {
		const struct df_json_value *v = df_json_type(layers) == DF_JSON_ARRAY ? df_json_at(layers, i) : layers;

		if (df_json_type(v) != DF_JSON_INT)
			return df_fail(err, DF_EFORMAT, "'layers_to_transform': expected an integer, found %s",
			    df_json_type_name(v));
	}
	r->layers = layers;
	if (empty(parts))
		return DF_OK;
	for (size_t i = 0; i < (many ? df_json_size(parts) : 1); i++) {
		const char *s = df_json_str(many ? df_json_at(parts, i) : parts, NULL);

		if (s == NULL)
			return df_fail(err, DF_EFORMAT, "'layers_pattern': expected a string");
		if (s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")] != '\0')
			return df_fail(
			    err, DF_EUNSUPPORTED, "'layers_pattern': the pattern '%.64s' is not supported", s);
		if (*s != '\0')
			r->layers_pattern = parts;
	}
	return DF_OK;
}

/* Replace target_modules by the full names of the modules that remain. */
static int
restrict_targets(struct df_model *m, const struct df_json_value *cfg, struct df_err *err)
{
	const struct df_json_value *exclude = df_json_get(cfg, "exclude_modules");
	struct restriction r = { .names = DF_BUF_INIT };
	int rc;

	DF_TRY(check_layers(&r, m, cfg, err));
	if (r.layers == NULL && empty(exclude))
		goto out;
	if (df_json_type(exclude) == DF_JSON_STR) {
		DF_TRY(df_name_pattern_new(&r.exclude, df_json_str(exclude, NULL), "exclude_modules", err));
	} else if ((rc = read_list(exclude, &r.excluded, err)) != DF_OK) {
		df_err_prefix(err, "'exclude_modules': ");
		goto out;
	}
	if (m->target_pattern)
		DF_TRY(df_name_pattern_new(&r.target, m->targets, "target_modules", err));
	else
		DF_TRY(check_names(m, err));
	(void)for_parts(m, keep_restricted, &r);
	if (r.slow)
		rc = df_fail(err, DF_EUNSUPPORTED, "'target_modules' or 'exclude_modules': takes too long to match");
	else if (r.names.len == 0)
		rc = df_fail(err, DF_EUNSUPPORTED, "'layers_to_transform' and 'exclude_modules' leave no projection");
	else
		rc = df_buf_check(&r.names, err);
	if (rc != DF_OK)
		goto out;
	free(m->targets);
	m->targets = df_buf_detach(&r.names);
	m->target_pattern = false;
	DF_TRY(sort_list(&m->targets, err));
out:
	df_name_pattern_free(r.target);
	df_name_pattern_free(r.exclude);
	free(r.excluded);
	df_buf_release(&r.names);
	return rc;
}

static int
check_kind(const struct df_json_value *cfg, struct df_err *err)
{
	/* Each of these changes what the adapter computes. */
	static const char *const off[] = { "use_dora", "fan_in_fan_out", "lora_bias", "layer_replication",
		"trainable_token_indices", "target_parameters", "alora_invocation_tokens", "use_qalora", NULL };
	const char *s;
	int rc;

	DF_TRY(df_json_member_str(cfg, "peft_type", "LORA", &s, err));
	if (strcmp(s, "LORA") != 0)
		return df_fail(err, DF_EUNSUPPORTED, "'peft_type': '%.64s' is not supported (LORA is)", s);
	DF_TRY(df_json_member_str(cfg, "task_type", "CAUSAL_LM", &s, err));
	if (strcmp(s, "CAUSAL_LM") != 0 && strcmp(s, "FEATURE_EXTRACTION") != 0)
		return df_fail(err, DF_EUNSUPPORTED,
		    "'task_type': '%.64s' is not supported (CAUSAL_LM and FEATURE_EXTRACTION are)", s);
	DF_TRY(df_json_member_str(cfg, "bias", "none", &s, err));
	if (strcmp(s, "none") != 0)
		return df_fail(err, DF_EUNSUPPORTED, "'bias': '%.64s' is not supported (none is)", s);
	for (size_t i = 0; off[i] != NULL; i++) {
		if (!empty(df_json_get(cfg, off[i])))
			return df_fail(err, DF_EUNSUPPORTED, "'%s' is not supported", off[i]);
	}
	/* PiSSA and similar methods change the base weights as well. */
	s = df_json_str(df_json_get(cfg, "init_lora_weights"), NULL);
	if (s != NULL && strcmp(s, "gaussian") != 0)
		return df_fail(err, DF_EUNSUPPORTED, "'init_lora_weights': '%.64s' is not supported", s);
out:
	return rc;
}

int
df_lora_read_config(struct df_model *m, const struct df_json_value *cfg, struct df_err *err)
{
	int64_t r;
	int rc;

	if (df_json_type(cfg) != DF_JSON_OBJECT)
		return df_fail(err, DF_EFORMAT, "expected an object, found %s", df_json_type_name(cfg));
	DF_TRY(check_kind(cfg, err));
	DF_TRY(df_json_member_int(cfg, "r", 8, 1, RANK_MAX, &r, err));
	DF_TRY(df_json_member_double(cfg, "lora_alpha", 8, &m->alpha, err));
	DF_TRY(df_json_member_double(cfg, "lora_dropout", 0, &m->lora_dropout, err));
	DF_TRY(df_json_member_bool(cfg, "use_rslora", false, &m->rslora, err));
	m->rank = (size_t)r;
	DF_TRY(df_lora_patterns_read(&m->rank_pattern, cfg, "rank_pattern", 1, RANK_MAX, true, err));
	DF_TRY(df_lora_patterns_read(&m->alpha_pattern, cfg, "alpha_pattern", 1e-30, 1e30, false, err));
	DF_TRY(read_targets(m, df_json_get(cfg, "target_modules"), err));
	DF_TRY(restrict_targets(m, cfg, err));
	rc = read_list(df_json_get(cfg, "modules_to_save"), &m->additional, err);
	if (rc != DF_OK)
		df_err_prefix(err, "'modules_to_save': ");
out:
	return rc;
}

/* A list as JSON, or null for NULL. */
static void
put_list(struct df_buf *b, const char *list)
{
	const char *name, *comma = "";
	size_t n;

	if (list == NULL || *list == '\0') {
		df_buf_puts(b, "null");
		return;
	}
	df_buf_putc(b, '[');
	for (; df_next_name(&list, &name, &n); comma = ",") {
		df_buf_printf(b, "%s\n    ", comma);
		df_buf_json_strn(b, name, n);
	}
	df_buf_puts(b, "\n  ]");
}

int
df_lora_write_config(const struct df_model *m, const char *path, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	int rc;

	df_buf_puts(&b, "{\n  \"alpha_pattern\": ");
	df_lora_patterns_put(&b, &m->alpha_pattern);
	df_buf_puts(&b, ",\n  \"auto_mapping\": null,\n  \"base_model_name_or_path\": ");
	df_buf_json_str(&b, m->dir != NULL ? m->dir : "");
	df_buf_puts(&b,
	    ",\n  \"bias\": \"none\",\n  \"fan_in_fan_out\": false,\n  \"inference_mode\": true,\n"
	    "  \"init_lora_weights\": true,\n  \"layers_pattern\": null,\n  \"layers_to_transform\": null,\n"
	    "  \"lora_alpha\": ");
	df_lora_put_number(&b, m->alpha);
	df_buf_puts(&b, ",\n  \"lora_dropout\": ");
	df_buf_json_double(&b, m->lora_dropout);
	df_buf_puts(&b, ",\n  \"modules_to_save\": ");
	put_list(&b, m->additional);
	df_buf_puts(&b, ",\n  \"peft_type\": \"LORA\",\n");
	df_buf_printf(&b, "  \"r\": %zu,\n  \"rank_pattern\": ", m->rank);
	df_lora_patterns_put(&b, &m->rank_pattern);
	df_buf_puts(&b, ",\n  \"revision\": null,\n  \"target_modules\": ");
	if (m->target_pattern)
		df_buf_json_str(&b, m->targets);
	else
		put_list(&b, m->targets);
	df_buf_printf(&b, ",\n  \"task_type\": \"CAUSAL_LM\",\n  \"use_dora\": false,\n  \"use_rslora\": %s\n}\n",
	    m->rslora ? "true" : "false");
	DF_TRY(df_buf_check(&b, err));
	DF_TRY(df_file_put(path, b.data, b.len, err));
out:
	df_buf_release(&b);
	return rc;
}
