/*
 * plan.c - the graph: nodes, their words and files, and the strings of all.
 */
#include <search.h>
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

bool
df_plan_goes_on(const struct df_plan_node *n)
{
	return strncmp(n->name, DF_PLAN_RUN, strlen(DF_PLAN_RUN)) == 0;
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

static int
by_path(const void *a, const void *b)
{
	return strcmp(((const struct df_plan_file *)a)->path, ((const struct df_plan_file *)b)->path);
}

const struct df_plan_file *
df_plan_file(const struct df_plan *p, const char *path)
{
	const struct df_plan_file key = { .path = path };
	struct df_plan_file *const *at = tfind(&key, &p->files, by_path);

	return at ? *at : NULL;
}

/* The file's row, a new one if there was none; NULL: no memory. */
static struct df_plan_file *
file_row(struct df_plan *p, const char *path)
{
	struct df_plan_file *f, **at;

	if (df_alloc(&f, 1, sizeof(*f), "files of a plan", NULL) != DF_OK)
		return NULL;
	*f = (struct df_plan_file){ .path = path, .maker = DF_PLAN_NOBODY };
	at = tsearch(f, &p->files, by_path);
	if (!at || *at != f)
		free(f);
	return at ? *at : NULL;
}

/* A node's place, found by its name. */
struct name {
	const char *name;
	size_t node;
};

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct name *)a)->name, ((const struct name *)b)->name);
}

const struct df_plan_node *
df_plan_find(const struct df_plan *p, const char *name)
{
	const struct name key = { .name = name };
	struct name *const *at = tfind(&key, &p->names, by_name);

	return at ? &p->node[(*at)->node] : NULL;
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
	if (df_plan_find(p, n->name))
		return df_fail(err, DF_EINTERNAL, "plan: two commands are called %s", n->name);
	for (size_t k = 0; k < n->out.n; k++) {
		const struct df_plan_file *f = df_plan_file(p, n->out.v[k]);

		if (f && f->maker != DF_PLAN_NOBODY)
			return df_fail(err, DF_EINTERNAL, "plan: %s and %s both make %s", p->node[f->maker].name,
			    n->name, n->out.v[k]);
	}
	return DF_OK;
}

/* So that the node that will be p->node[p->n], and its files, are found. */
static int
enter(struct df_plan *p, const struct df_plan_node *n, struct df_err *err)
{
	struct df_plan_file *f;
	struct name *name;
	int rc = DF_OK;

	DF_TRY(df_alloc(&name, 1, sizeof(*name), "names of a plan", err));
	*name = (struct name){ n->name, p->n };
	if (!tsearch(name, &p->names, by_name)) {
		free(name);
		return df_fail(err, DF_ENOMEM, "out of memory for a plan");
	}
	for (size_t i = 0; i < n->in.n + n->out.n; i++) {
		const bool read = i < n->in.n;

		if (!(f = file_row(p, read ? n->in.v[i] : n->out.v[i - n->in.n])))
			return df_fail(err, DF_ENOMEM, "out of memory for a plan");
		f->read = f->read || read;
		f->maker = read ? f->maker : p->n;
	}
out:
	return rc;
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
	DF_TRY(enter(p, n, err));
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
	tdestroy(p->files, free);
	tdestroy(p->names, free);
	free(p->node);
	free(p->text);
	free(p->notes.v);
	*p = (struct df_plan){ 0 };
}
