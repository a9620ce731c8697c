/*
 * plan.c - the graph: nodes, their words and files, and the strings of all.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "plan/plan.h"

/* ---- strings ---------------------------------------------------------------------- */

static DF_PRINTF(2, 0) const char *text_v(struct df_plan *p, const char *fmt, va_list ap)
{
	char *s = NULL;

	if (p->failed || df_grow(&p->text, &p->cap_text, p->n_text + 1, sizeof(*p->text), "strings of a plan", NULL) ||
	    vasprintf(&s, fmt, ap) < 0) {
		p->failed = true;
		return "";
	}
	p->text[p->n_text++] = s;
	return s;
}

const char *
df_plan_text(struct df_plan *p, const char *fmt, ...)
{
	va_list ap;
	const char *s;

	va_start(ap, fmt);
	s = text_v(p, fmt, ap);
	va_end(ap);
	return s;
}

/* Append s, which the plan owns. */
static void
append(struct df_plan *p, struct df_strlist *list, const char *s)
{
	if (p->failed || df_grow(&list->v, &list->cap, list->n + 1, sizeof(*list->v), "words of a plan", NULL) != DF_OK)
		p->failed = true;
	else
		list->v[list->n++] = s;
}

static bool
has(const struct df_strlist *list, const char *s)
{
	for (size_t i = 0; i < list->n; i++) {
		if (strcmp(list->v[i], s) == 0)
			return true;
	}
	return false;
}

/* ---- a node ----------------------------------------------------------------------- */

void
df_plan_word(struct df_plan *p, struct df_plan_node *n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	append(p, &n->argv, text_v(p, fmt, ap));
	va_end(ap);
}

void
df_plan_words(struct df_plan *p, struct df_plan_node *n, ...)
{
	va_list ap;

	va_start(ap, n);
	for (const char *s; (s = va_arg(ap, const char *)) != NULL;)
		df_plan_word(p, n, "%s", s);
	va_end(ap);
}

void
df_plan_in(struct df_plan *p, struct df_plan_node *n, const char *path)
{
	if (!has(&n->in, path))
		append(p, &n->in, df_plan_text(p, "%s", path));
}

void
df_plan_out(struct df_plan *p, struct df_plan_node *n, const char *path)
{
	append(p, &n->out, df_plan_text(p, "%s", path));
}

void
df_plan_out_shards(struct df_plan *p, struct df_plan_node *n, const char *path)
{
	const char *dot = strrchr(path, '.');
	const int stem = dot ? (int)(dot - path) : (int)strlen(path);

	for (size_t i = 1; i <= n->shards; i++)
		append(p, &n->out, df_plan_text(p, "%.*s.%05zu-of-%05zu%s", stem, path, i, n->shards, dot ? dot : ""));
}

void
df_plan_after(struct df_plan *p, struct df_plan_node *n, const char *name)
{
	const struct df_plan_node *from = df_plan_find(p, name);

	for (size_t i = 0; from && i < from->out.n; i++) {
		if (!has(&n->in, from->out.v[i]))
			append(p, &n->in, from->out.v[i]);
	}
}

static void
node_release(struct df_plan_node *n)
{
	free(n->argv.v);
	free(n->in.v);
	free(n->out.v);
	*n = (struct df_plan_node){ 0 };
}

/* ---- the plan --------------------------------------------------------------------- */

const struct df_plan_node *
df_plan_find(const struct df_plan *p, const char *name)
{
	for (size_t i = 0; i < p->n; i++) {
		if (strcmp(p->node[i].name, name) == 0)
			return &p->node[i];
	}
	return NULL;
}

void
df_plan_note(struct df_plan *p, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	append(p, &p->notes, text_v(p, fmt, ap));
	va_end(ap);
}

/* Of the version, the words and the settings, each with its NUL. */
static int
digest(struct df_plan_node *n, const char *settings, struct df_err *err)
{
	struct df_hasher *h;
	int rc = df_hasher_new(&h, 0, err);

	if (rc != DF_OK)
		return rc;
	df_hasher_add(h, DF_VERSION, sizeof(DF_VERSION));
	for (size_t i = 0; i < n->argv.n; i++)
		df_hasher_add(h, n->argv.v[i], strlen(n->argv.v[i]) + 1);
	if (settings)
		df_hasher_add(h, settings, strlen(settings) + 1);
	n->key = df_hasher_end(h).lo;
	df_hasher_free(h);
	return DF_OK;
}

static int
check_new(const struct df_plan *p, const struct df_plan_node *n, struct df_err *err)
{
	if (n->argv.n == 0 || n->out.n == 0)
		return df_fail(err, DF_EINTERNAL, "plan: %s has no command or makes nothing", n->name);
	for (size_t i = 0; i < p->n; i++) {
		if (strcmp(p->node[i].name, n->name) == 0)
			return df_fail(err, DF_EINTERNAL, "plan: two commands are called %s", n->name);
		for (size_t k = 0; k < n->out.n; k++) {
			if (has(&p->node[i].out, n->out.v[k]))
				return df_fail(err, DF_EINTERNAL, "plan: %s and %s both make %s", p->node[i].name,
				    n->name, n->out.v[k]);
		}
	}
	return DF_OK;
}

int
df_plan_add(struct df_plan *p, struct df_plan_node *n, const char *settings, struct df_err *err)
{
	int rc = DF_OK;

	if (p->failed || df_grow(&p->node, &p->cap, p->n + 1, sizeof(*p->node), "nodes of a plan", NULL) != DF_OK) {
		rc = df_fail(err, DF_ENOMEM, "out of memory for a plan");
		goto out;
	}
	DF_TRY(check_new(p, n, err));
	DF_TRY(digest(n, settings, err));
	p->node[p->n++] = *n;
	*n = (struct df_plan_node){ 0 };
out:
	node_release(n);
	return rc;
}

void
df_plan_release(struct df_plan *p)
{
	for (size_t i = 0; i < p->n; i++)
		node_release(&p->node[i]);
	for (size_t i = 0; i < p->n_text; i++)
		free(p->text[i]);
	free(p->node);
	free(p->text);
	free(p->notes.v);
	*p = (struct df_plan){ 0 };
}
