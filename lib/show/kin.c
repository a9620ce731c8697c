/*
 * kin.c - find files by their ids.
 */
#include "show/kin.h"

#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"

/* The name of a shard's whole family: x.00001-of-00004.h5 -> x.h5, and which of how many it is; *of = 0: no shard. */
static int
family_name(char **out, const char *path, unsigned *i, unsigned *of, struct df_err *err)
{
	size_t n = strlen(path);
	char end;

	if (n > 18 && path[n - 18] == '.' && sscanf(path + n - 18, ".%5u-of-%5u.h%c", i, of, &end) == 3 && end == '5' &&
	    *i >= 1 && *i <= *of)
		return df_asprintf(out, err, "%.*s.h5", (int)(n - 18), path);
	*of = 0;
	return df_strdup(out, path, err);
}

/* One more shard of the family: their ids add up. */
static void
merge(struct df_kin_file *k, const struct df_meta *m, uint64_t rows, unsigned i)
{
	struct df_digest a, b;

	if (k->seen[i - 1])
		return;
	if (df_digest_parse(&a, k->meta.id, NULL) != DF_OK || df_digest_parse(&b, m->id, NULL) != DF_OK)
		return;
	df_digest_merge(&a, b);
	df_digest_hex(a, k->meta.id);
	k->seen[i - 1] = 1;
	k->rows += rows;
	k->shards++;
}

int
df_kin_add(struct df_kin *k, const char *path, struct df_err *err)
{
	struct df_meta m = DF_META_INIT;
	struct df_kin_file *f;
	unsigned i = 0, of = 0;
	char *name = NULL;
	uint64_t rows;
	int rc;

	DF_TRY(family_name(&name, path, &i, &of, err));
	for (size_t j = 0; j < k->n; j++) {
		f = &k->v[j];
		if (strcmp(f->path, name) != 0 || f->n != of)
			continue;
		if (of && df_meta_load(&m, path, &rows, NULL) == DF_OK)
			merge(f, &m, rows, i);
		goto out;
	}
	if (df_meta_load(&m, path, &rows, NULL) != DF_OK)
		goto out;
	DF_TRY(df_grow(&k->v, &k->cap, k->n + 1, sizeof(*k->v), "files", err));
	f = &k->v[k->n];
	*f = (struct df_kin_file){ .rows = rows, .shards = 1, .n = of };
	DF_TRY(df_alloc(&f->seen, of, 1, "shards", err));
	if (of)
		f->seen[i - 1] = 1;
	f->path = name;
	f->meta = m;
	k->n++;
	return DF_OK;
out:
	df_meta_release(&m);
	free(name);
	return rc;
}

int
df_kin_add_beside(struct df_kin *k, const char *path, struct df_err *err)
{
	const char *base = df_path_base(path);
	struct df_buf b = DF_BUF_INIT;
	glob_t g = { .gl_pathc = 0 };
	int rc;

	for (const char *p = path; p < base; p++) {
		if (strchr("*?[\\", *p))
			df_buf_putc(&b, '\\');
		df_buf_putc(&b, *p);
	}
	df_buf_puts(&b, "*.h5");
	DF_TRY(df_buf_check(&b, err));
	if (glob(b.data, 0, NULL, &g) == 0)
		for (size_t i = 0; i < g.gl_pathc; i++)
			DF_TRY(df_kin_add(k, g.gl_pathv[i], err));
out:
	globfree(&g);
	df_buf_release(&b);
	return rc;
}

int
df_kin_add_all(struct df_kin *k, const char *const *paths, size_t n, struct df_err *err)
{
	int rc = DF_OK;

	for (size_t i = 0; i < n; i++)
		if (!df_file_is_dir(paths[i]))
			DF_TRY(df_kin_add(k, paths[i], err));
	for (size_t i = 0; i < n; i++)
		DF_TRY(df_kin_add_beside(k, paths[i], err));
out:
	return rc;
}

const struct df_kin_file *
df_kin_find(const struct df_kin *k, const char *id)
{
	for (size_t i = 0; i < k->n; i++)
		if (k->v[i].meta.id[0] && strcmp(k->v[i].meta.id, id) == 0)
			return &k->v[i];
	return NULL;
}

void
df_kin_release(struct df_kin *k)
{
	for (size_t i = 0; i < k->n; i++) {
		free(k->v[i].path);
		free(k->v[i].seen);
		df_meta_release(&k->v[i].meta);
	}
	free(k->v);
	*k = (struct df_kin)DF_KIN_INIT;
}

const struct df_kin_file *
df_kin_tokens(const struct df_kin *k, const struct df_meta *of, const char *const *named, size_t n)
{
	const struct df_input *in = df_meta_input(of, "tokens");

	for (size_t i = 0; i < k->n && in; i++) {
		const struct df_meta *m = &k->v[i].meta;
		size_t d = 0;

		if (strcmp(m->id, in->id) != 0 || m->n_domains != of->n_domains)
			continue;
		while (d < m->n_domains && strcmp(m->domains[d], of->domains[d]) == 0)
			d++;
		if (d == m->n_domains)
			return &k->v[i];
	}
	for (size_t i = 0; i < n && !in; i++)
		for (size_t j = 0; j < k->n; j++)
			if (df_kind_fits(k->v[j].meta.kind, DF_KIND_TOKENS) && strcmp(k->v[j].path, named[i]) == 0)
				return &k->v[j];
	return in ? df_kin_find(k, in->id) : NULL;
}

int
df_kin_open_tokens(struct df_set **out, struct df_set *of, const struct df_kin *k, const char *const *named, size_t n,
    struct df_err *err)
{
	const struct df_input *in = df_meta_input(df_set_meta(of), "tokens");
	const struct df_kin_file *f = in ? df_kin_tokens(k, df_set_meta(of), NULL, 0) : NULL;

	if (f)
		return df_set_open1(out, DF_KIND_TOKENS, "tokens", f->path, err);
	if (in) {
		return df_fail(err, DF_ENOINPUT, "%s: its tokens, %.12s, are neither beside it nor named after it",
		    df_set_name(of), in->id);
	}
	if (n == 0)
		return df_fail(
		    err, DF_EUSAGE, "%s: does not say which tokens it is of; name them after it", df_set_name(of));
	return df_set_open(out, DF_KIND_TOKENS, "tokens", named, n, err);
}

int
df_kin_open_pool(struct df_set **out, struct df_set *of, const char *const *named, size_t n, struct df_err *err)
{
	struct df_kin kin = DF_KIN_INIT;
	int rc;

	DF_TRY(df_kin_add_all(&kin, named, n, err));
	rc = df_kin_open_tokens(out, of, &kin, named + 1, n - 1, err);
out:
	df_kin_release(&kin);
	return rc;
}
