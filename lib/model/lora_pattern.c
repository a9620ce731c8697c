/*
 * lora_pattern.c - which modules a name in adapter_config.json means, where it is a pattern.
 *
 *	target_modules, exclude_modules   a regular expression over the whole name (Python's re.fullmatch)
 *	rank_pattern, alpha_pattern       one over the end of the name, after a dot; the first that matches counts
 *	layers_to_transform               numbers of layers, read from the name
 *
 * A model's module names are known, but the expressions come from a file: the work of matching is bounded.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/buf.h"
#include "base/mem.h"
#include "model/model_priv.h"

#define MATCH_LIMIT  100000 /* steps of matching a pattern to one name: bounds the time of a hostile one */
#define PATTERNS_MAX 256    /* regular expressions in one object; plain names may be more */

/* ---- a pattern ----------------------------------------------------------------- */

struct df_name_pattern {
	const char *plain; /* borrowed: a pattern that is a plain name, with dots only; else NULL */
	size_t n;
	pcre2_code *code;
	pcre2_match_data *match;
	pcre2_match_context *limits;
};

static void
release(struct df_name_pattern *p)
{
	pcre2_match_context_free(p->limits);
	pcre2_match_data_free(p->match);
	pcre2_code_free(p->code);
}

void
df_name_pattern_free(struct df_name_pattern *p)
{
	if (p == NULL)
		return;
	release(p);
	free(p);
}

static int
compile(struct df_name_pattern *p, const char *regex, const char *shown, const char *key, struct df_err *err)
{
	PCRE2_UCHAR text[128];
	PCRE2_SIZE at;
	int code;

	p->code = pcre2_compile(
	    (PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF, &code, &at, NULL);
	if (p->code == NULL) {
		pcre2_get_error_message(code, text, sizeof(text));
		return df_fail(err, DF_EFORMAT, "'%s': the pattern '%.100s' at %zu: %s", key, shown,
		    (size_t)at - (size_t)(strstr(regex, shown) - regex), (const char *)text);
	}
	p->match = pcre2_match_data_create_from_pattern(p->code, NULL);
	p->limits = pcre2_match_context_create(NULL);
	if (p->match == NULL || p->limits == NULL)
		return df_fail(err, DF_ENOMEM, "a pattern");
	pcre2_set_match_limit(p->limits, MATCH_LIMIT);
	return DF_OK;
}

int
df_name_pattern_new(struct df_name_pattern **out, const char *regex, const char *key, struct df_err *err)
{
	struct df_name_pattern *p = NULL;
	int rc;

	DF_TRY(df_alloc(&p, 1, sizeof(*p), "a pattern", err));
	DF_TRY(compile(p, regex, regex, key, err));
	*out = p;
	p = NULL;
out:
	df_name_pattern_free(p);
	return rc;
}

static bool
is_plain(const char *s)
{
	return s[strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.")] == '\0';
}

/* PEFT: re.match("(.*\.)?(KEY)$", name). */
static int
end_pattern(struct df_name_pattern *p, const char *end, const char *key, struct df_err *err)
{
	char *regex = NULL;
	int rc = DF_OK;

	*p = (struct df_name_pattern){ .n = strlen(end) };
	if (is_plain(end)) {
		p->plain = end;
		return DF_OK;
	}
	DF_TRY(df_asprintf(&regex, err, "(.*\\.)?(%s)", end));
	DF_TRY(compile(p, regex, end, key, err));
out:
	free(regex);
	return rc;
}

/* Does the name end with these characters, after a dot?  A dot in the pattern matches any character. */
static bool
ends_in(const char *name, size_t n, const char *plain, size_t k)
{
	if (n < k || (n > k && name[n - k - 1] != '.'))
		return false;
	for (size_t i = 0; i < k; i++) {
		if (plain[i] != '.' && plain[i] != name[n - k + i])
			return false;
	}
	return true;
}

int
df_name_pattern_fits(const struct df_name_pattern *p, const char *name, size_t n)
{
	int code;

	if (p->plain != NULL)
		return ends_in(name, n, p->plain, p->n);
	code = pcre2_match(p->code, (PCRE2_SPTR)name, n, 0, 0, p->match, p->limits);
	return code >= 0 ? 1 : code == PCRE2_ERROR_NOMATCH ? 0 : -1;
}

/* ---- layers -------------------------------------------------------------------- */

static bool
is_number(const char *s, size_t n)
{
	return n > 0 && n < 10 && strspn(s, "0123456789") >= n;
}

/* PEFT: the last ".PART.NUMBER." of a name; part NULL: any. */
bool
df_module_layer(const char *module, size_t n, const char *part, int64_t *layer)
{
	const char *end = module + n, *first_dot = memchr(module, '.', n), *before = NULL, *s, *dot;
	bool found = false;

	/* The parts between dots: `before` is the part before s, and must have a dot before it too. */
	for (s = module; (dot = memchr(s, '.', (size_t)(end - s))) != NULL; before = s, s = dot + 1) {
		if (before == NULL || before <= first_dot || !is_number(s, (size_t)(dot - s)))
			continue;
		if (part == NULL ||
		    ((size_t)(s - 1 - before) == strlen(part) && memcmp(before, part, strlen(part)) == 0)) {
			*layer = strtol(s, NULL, 10);
			found = true;
		}
	}
	return found;
}

/* ---- ranks and alphas of single modules -------------------------------------------- */

void
df_lora_patterns_release(struct df_lora_patterns *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->v[i].key);
	free(p->v);
	*p = (struct df_lora_patterns){ 0 };
}

int
df_lora_patterns_read(struct df_lora_patterns *p, const struct df_json_value *cfg, const char *key, double min,
    double max, bool whole, struct df_err *err)
{
	const struct df_json_value *obj = df_json_get(cfg, key), *v;
	const struct df_json_member *at = NULL;
	size_t cap = 0, n_regex = 0;
	const char *name;
	double x;
	int rc = DF_OK;

	df_lora_patterns_release(p);
	if (df_json_type(obj) == DF_JSON_ABSENT || df_json_type(obj) == DF_JSON_NULL)
		return DF_OK;
	if (df_json_type(obj) != DF_JSON_OBJECT)
		return df_fail(err, DF_EFORMAT, "'%s': expected an object, found %s", key, df_json_type_name(obj));
	while ((at = df_json_next(obj, at, &name, &v)) != NULL) {
		if (!df_json_number(v, &x) || !(x >= min && x <= max) || (whole && x != floor(x))) {
			rc = df_fail(err, DF_ERANGE, "'%s': '%.100s': not %s in [%g, %g]", key, name,
			    whole ? "an integer" : "a number", min, max);
			goto out;
		}
		n_regex += !is_plain(name);
		if (n_regex > PATTERNS_MAX) {
			rc = df_fail(err, DF_EUNSUPPORTED, "'%s': more than %d regular expressions", key, PATTERNS_MAX);
			goto out;
		}
		DF_TRY(df_grow(&p->v, &cap, p->n + 1, sizeof(*p->v), "patterns", err));
		DF_TRY(df_strdup(&p->v[p->n].key, name, err));
		p->v[p->n++].value = x;
	}
out:
	return rc;
}

void
df_lora_patterns_put(struct df_buf *b, const struct df_lora_patterns *p)
{
	df_buf_putc(b, '{');
	for (size_t i = 0; i < p->n; i++) {
		df_buf_puts(b, i ? ",\n    " : "\n    ");
		df_buf_json_str(b, p->v[i].key);
		df_buf_puts(b, ": ");
		df_lora_put_number(b, p->v[i].value);
	}
	df_buf_puts(b, p->n > 0 ? "\n  }" : "}");
}

void
df_lora_put_number(struct df_buf *b, double x)
{
	if (x == floor(x) && x < 1e15) /* PEFT writes an integer where it was given one */
		df_buf_printf(b, "%.0f", x);
	else
		df_buf_json_double(b, x);
}

/* An object's patterns, compiled. */
struct compiled {
	const struct df_lora_patterns *of;
	struct df_name_pattern *v;
	size_t n;
};

static void
compiled_release(struct compiled *c)
{
	for (size_t i = 0; i < c->n; i++)
		release(&c->v[i]);
	free(c->v);
}

static int
compile_all(struct compiled *c, const struct df_lora_patterns *of, const char *key, struct df_err *err)
{
	int rc;

	c->of = of;
	DF_TRY(df_alloc(&c->v, of->n, sizeof(*c->v), "patterns", err));
	for (; c->n < of->n; c->n++) {
		rc = end_pattern(&c->v[c->n], of->v[c->n].key, key, err);
		if (rc != DF_OK) {
			release(&c->v[c->n]);
			goto out;
		}
	}
out:
	return rc;
}

/* *x = the value of the first pattern that fits; unchanged where none does. */
static int
look_up(const struct compiled *c, const char *module, size_t n, const char *key, double *x, struct df_err *err)
{
	for (size_t i = 0; i < c->n; i++) {
		int fits = df_name_pattern_fits(&c->v[i], module, n);

		if (fits < 0)
			return df_fail(err, DF_EUNSUPPORTED, "'%s': the pattern '%.100s' takes too long to match", key,
			    c->of->v[i].key);
		if (fits > 0) {
			*x = c->of->v[i].value;
			break;
		}
	}
	return DF_OK;
}

int
df_lora_set_scales(struct df_model *m, struct df_err *err)
{
	struct compiled ranks = { 0 }, alphas = { 0 };
	struct df_group *g;
	int rc;

	DF_TRY(compile_all(&ranks, &m->rank_pattern, "rank_pattern", err));
	DF_TRY(compile_all(&alphas, &m->alpha_pattern, "alpha_pattern", err));
	for (size_t i = 0; i < m->cfg.n_layers; i++) {
		for (size_t k = 0; (g = df_layer_group(&m->layers[i], k)) != NULL; k++) {
			for (size_t j = 0; j < g->n_parts; j++) {
				double rank = (double)m->rank, alpha = m->alpha;
				struct df_part *t = &g->part[j];
				size_t n;
				const char *module = df_param_module(&m->base.v[t->weight], &n);

				DF_TRY(look_up(&ranks, module, n, "rank_pattern", &rank, err));
				DF_TRY(look_up(&alphas, module, n, "alpha_pattern", &alpha, err));
				t->rank = (size_t)rank;
				t->scale = (float)(alpha / (m->rslora ? sqrt(rank) : rank));
			}
		}
	}
out:
	compiled_release(&ranks);
	compiled_release(&alphas);
	return rc;
}
