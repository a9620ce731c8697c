/*
 * lineage.c - which files an artefact was made from: ids turned back into files.
 *
 * A file knows the ids of its inputs, not their names, as names change.  So the ids of the files in
 * the same directory (and of those that the user adds) are read, those of the shards of one family are
 * combined, and the tree is followed as far as files are found.
 */
#include "show/show.h"

#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

/* A tree in which every file names its input twice doubles with every level: both depth and size are bounded. */
#define DEPTH_MAX  32
#define BRANCH_MAX 4096

struct known {
	char *path; /* of a family: BASE.h5 */
	struct df_meta meta;
	uint64_t rows;
	uint32_t shards; /* how many files */
};

struct files {
	struct known *v;
	size_t n, cap;
	size_t branches; /* followed so far */
};

/* The name of a shard's whole family: x.00001-of-00004.h5 -> x.h5. */
static int
family_name(char **out, const char *path, bool *is_shard, struct df_err *err)
{
	size_t n = strlen(path);
	unsigned i, of;
	char end;

	*is_shard =
	    n > 18 && path[n - 18] == '.' && sscanf(path + n - 18, ".%5u-of-%5u.h%c", &i, &of, &end) == 3 && end == '5';
	if (*is_shard)
		return df_asprintf(out, err, "%.*s.h5", (int)(n - 18), path);
	return df_strdup(out, path, err);
}

/* Read a file's ids; a file that is not an artefact is skipped. */
static int
note(struct files *f, const char *path, struct df_err *err)
{
	struct df_meta m = DF_META_INIT;
	struct df_digest a, b;
	char *name = NULL;
	uint64_t rows;
	bool is_shard;
	int rc;

	DF_TRY(family_name(&name, path, &is_shard, err));
	for (size_t i = 0; i < f->n; i++) {
		struct known *k = &f->v[i];

		if (strcmp(k->path, name) != 0)
			continue;
		if (is_shard && df_meta_load(&m, path, &rows, NULL) == DF_OK &&
		    df_digest_parse(&a, k->meta.id, NULL) == DF_OK && df_digest_parse(&b, m.id, NULL) == DF_OK) {
			df_digest_merge(&a, b);
			df_digest_hex(a, k->meta.id);
			k->rows += rows;
			k->shards++;
		}
		goto out;
	}
	if (df_meta_load(&m, path, &rows, NULL) != DF_OK)
		goto out;
	DF_TRY(df_grow(&f->v, &f->cap, f->n + 1, sizeof(*f->v), "files", err));
	f->v[f->n++] = (struct known){ name, m, rows, 1 };
	return DF_OK;
out:
	df_meta_release(&m);
	free(name);
	return rc;
}

static int
note_beside(struct files *f, const char *path, struct df_err *err)
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
			DF_TRY(note(f, g.gl_pathv[i], err));
out:
	globfree(&g);
	df_buf_release(&b);
	return rc;
}

static const struct known *
find(const struct files *f, const char *id)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->v[i].meta.id[0] && strcmp(f->v[i].meta.id, id) == 0)
			return &f->v[i];
	return NULL;
}

/* ---- text */

static void
tell(const struct known *k, struct df_buf *out)
{
	df_buf_printf(out, "%s", k->path);
	if (k->shards > 1)
		df_buf_printf(out, " (%" PRIu32 " shards)", k->shards);
	df_buf_printf(out, ": %s, %" PRIu64 " row%s", df_kind_name(k->meta.kind), k->rows, k->rows == 1 ? "" : "s");
	if (k->meta.tool && *k->meta.tool)
		df_buf_printf(out, ", by %s %s", k->meta.tool, k->meta.version ? k->meta.version : "");
}

static void
branch(struct files *f, const struct df_meta *m, const char *indent, int depth, struct df_buf *out)
{
	for (size_t i = 0; i < m->n_inputs; i++) {
		const struct df_input *in = &m->inputs[i];
		const struct known *k = find(f, in->id);
		bool last = i + 1 == m->n_inputs;
		char deeper[4 * DEPTH_MAX + 1];

		df_buf_printf(out, "%s%s %s  ", indent, last ? "`-" : "|-", in->role);
		if (k)
			tell(k, out);
		else
			df_buf_puts(out, in->kind);
		df_buf_printf(out, "  %.12s\n", in->id);
		snprintf(deeper, sizeof(deeper), "%s%s", indent, last ? "   " : "|  ");
		if (k && depth < DEPTH_MAX && f->branches++ < BRANCH_MAX)
			branch(f, &k->meta, deeper, depth + 1, out);
	}
}

/* ---- JSON */

static void
node(struct files *f, const char *role, const char *kind, const char *id, int depth, struct df_buf *out)
{
	const struct known *k = find(f, id);

	df_buf_putc(out, '{');
	if (role) {
		df_buf_puts(out, "\"role\": ");
		df_buf_json_str(out, role);
		df_buf_puts(out, ", ");
	}
	df_buf_puts(out, "\"kind\": ");
	df_buf_json_str(out, kind);
	df_buf_puts(out, ", \"id\": ");
	df_buf_json_str(out, id);
	if (k) {
		df_buf_puts(out, ", \"file\": ");
		df_buf_json_str(out, k->path);
		df_buf_printf(out, ", \"rows\": %" PRIu64 ", \"tool\": ", k->rows);
		df_buf_json_str(out, k->meta.tool ? k->meta.tool : "");
		df_buf_puts(out, ", \"inputs\": [");
		bool follow = depth < DEPTH_MAX && f->branches++ < BRANCH_MAX;

		for (size_t i = 0; i < k->meta.n_inputs && follow; i++) {
			df_buf_puts(out, i ? ", " : "");
			node(f, k->meta.inputs[i].role, k->meta.inputs[i].kind, k->meta.inputs[i].id, depth + 1, out);
		}
		df_buf_putc(out, ']');
	}
	df_buf_putc(out, '}');
}

int
df_lineage(
    const char *path, const char *const *others, size_t n_others, bool json, struct df_buf *out, struct df_err *err)
{
	struct files f = { NULL, 0, 0, 0 };
	struct df_meta m = DF_META_INIT;
	struct df_set *s = NULL;
	int rc;

	/* Opened as a set: it may be shards, and a file without an id gets one. */
	DF_TRY(df_set_open1(&s, DF_KIND_ANY, NULL, path, err));
	DF_TRY(df_meta_copy(&m, df_set_meta(s), err));
	for (size_t i = 0; i < n_others; i++)
		if (!df_file_is_dir(others[i]))
			DF_TRY(note(&f, others[i], err));
	DF_TRY(note_beside(&f, path, err));
	for (size_t i = 0; i < n_others; i++)
		DF_TRY(note_beside(&f, others[i], err));
	if (json) {
		node(&f, NULL, df_kind_name(m.kind), m.id, 0, out);
		df_buf_putc(out, '\n');
	} else {
		const struct known self = { (char *)(uintptr_t)path, m, df_set_rows(s), 1 };

		tell(&self, out);
		df_buf_printf(out, "  %.12s\n", m.id);
		branch(&f, &m, "", 0, out);
	}
	DF_TRY(df_buf_check(out, err));
out:
	for (size_t i = 0; i < f.n; i++) {
		free(f.v[i].path);
		df_meta_release(&f.v[i].meta);
	}
	free(f.v);
	df_meta_release(&m);
	df_set_close(s);
	return rc;
}
