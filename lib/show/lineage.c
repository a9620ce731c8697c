/*
 * lineage.c - which files an artefact was made from: ids turned back into files (kin.c), and the tree followed as far
 * as files are found.
 */
#include "show/show.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "show/kin.h"

/* A tree in which every file names its input twice doubles with every level: both depth and size are bounded. */
#define DEPTH_MAX  32
#define BRANCH_MAX 4096

struct tree {
	struct df_kin kin;
	size_t branches; /* followed so far */
};

/* ---- text */

static void
tell(const struct df_kin_file *k, struct df_buf *out)
{
	df_buf_printf(out, "%s", k->path);
	if (k->shards > 1)
		df_buf_printf(out, " (%" PRIu32 " shards)", k->shards);
	df_buf_printf(out, ": %s, %" PRIu64 " row%s", df_kind_name(k->meta.kind), k->rows, k->rows == 1 ? "" : "s");
	if (k->meta.tool && *k->meta.tool)
		df_buf_printf(out, ", by %s %s", k->meta.tool, k->meta.version ? k->meta.version : "");
}

static void
branch(struct tree *f, const struct df_meta *m, const char *indent, int depth, struct df_buf *out)
{
	for (size_t i = 0; i < m->n_inputs; i++) {
		const struct df_input *in = &m->inputs[i];
		const struct df_kin_file *k = df_kin_find(&f->kin, in->id);
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
node(struct tree *f, const char *role, const char *kind, const char *id, int depth, struct df_buf *out)
{
	const struct df_kin_file *k = df_kin_find(&f->kin, id);

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
	struct tree f = { DF_KIN_INIT, 0 };
	struct df_meta m = DF_META_INIT;
	struct df_set *s = NULL;
	int rc;

	/* Opened as a set: it may be shards, and a file without an id gets one. */
	DF_TRY(df_set_open1(&s, DF_KIND_ANY, NULL, path, err));
	DF_TRY(df_meta_copy(&m, df_set_meta(s), err));
	DF_TRY(df_kin_add_all(&f.kin, others, n_others, err));
	DF_TRY(df_kin_add_beside(&f.kin, path, err));
	if (json) {
		node(&f, NULL, df_kind_name(m.kind), m.id, 0, out);
		df_buf_putc(out, '\n');
	} else {
		const struct df_kin_file self = {
			.path = (char *)(uintptr_t)path, .meta = m, .rows = df_set_rows(s), .shards = 1
		};

		tell(&self, out);
		df_buf_printf(out, "  %.12s\n", m.id);
		branch(&f, &m, "", 0, out);
	}
	DF_TRY(df_buf_check(out, err));
out:
	df_kin_release(&f.kin);
	df_meta_release(&m);
	df_set_close(s);
	return rc;
}
