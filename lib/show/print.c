/*
 * print.c - a summary as aligned text, and as a line of JSON.
 */
#include "show/show.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "show/table.h"

static const char *const type_names[] = { "uint8", "uint16", "uint32", "uint64", "float32", "float64" };

/* Columns whose mean has no meaning: names, not quantities. */
static bool
is_name(enum df_col c)
{
	return c == DF_COL_ID || c == DF_COL_DOMAIN || c == DF_COL_SOURCE_ROW || c == DF_COL_IDS || c == DF_COL_RANK ||
	    c == DF_COL_INDEX || c == DF_COL_PROMPT;
}

static int
print_head(const struct df_summary *u, const struct df_set *s, struct df_buf *out, struct df_err *err)
{
	const struct df_meta *m = df_set_meta(s);
	struct df_table t = DF_TABLE_INIT("llll");
	int rc;

	df_buf_printf(out, "%s: %s, %" PRIu64 " row%s\n", df_set_name(s), df_kind_name(m->kind), u->rows,
	    u->rows == 1 ? "" : "s");
	df_buf_printf(out, "  id    %s\n", m->id);
	if (m->has_lineage)
		df_buf_printf(
		    out, "  by    %s %s\n", m->tool && *m->tool ? m->tool : "(unknown)", m->version ? m->version : "");
	else
		df_buf_puts(out, "  by    (says nothing of where it comes from)\n");
	for (size_t i = 0; i < m->n_inputs; i++) {
		df_table_cell(&t, "%s", i ? "" : "from");
		df_table_cell(&t, "%s", m->inputs[i].role);
		df_table_cell(&t, "%s", m->inputs[i].kind);
		df_table_cell(&t, "%s", m->inputs[i].id);
	}
	DF_TRY(df_table_print(&t, "  ", out, err));
	df_table_release(&t);
	t.align = "lll";
	for (size_t i = 0; i < m->n_params; i++) {
		df_table_cell(&t, "%s", i ? "" : "with");
		df_table_cell(&t, "%s", m->params[i].key);
		df_table_cell(&t, "%s", m->params[i].json);
	}
	DF_TRY(df_table_print(&t, "  ", out, err));
out:
	df_table_release(&t);
	return rc;
}

static void
stats_row(struct df_table *t, const struct df_col_stats *st, bool mean, bool is_float)
{
	df_table_number(t, st->min);
	df_table_number(t, mean ? st->mean : NAN);
	df_table_number(t, st->max);
	if (is_float)
		df_table_cell(t, "%" PRIu64, st->nan);
	else
		df_table_cell(t, "%s", "");
}

static int
print_columns(const struct df_summary *u, const struct df_set *s, struct df_buf *out, struct df_err *err)
{
	static const char *const heads[] = { "column", "type", "shape", "min", "mean", "max", "not finite" };
	struct df_table t = DF_TABLE_INIT("lllrrrr");
	bool any_float = false;
	int rc;

	for (int i = 0; i < DF_COL_COUNT; i++)
		any_float |= df_set_has(s, (enum df_col)i) && df_column((enum df_col)i)->type >= DF_COL_F32;
	for (size_t i = 0; i < 7; i++)
		df_table_cell(&t, "%s", i == 6 && !any_float ? "" : heads[i]);
	for (int i = 0; i < DF_COL_COUNT; i++) {
		const struct df_column *c = df_column((enum df_col)i);

		if (!df_set_has(s, (enum df_col)i))
			continue;
		df_table_cell(&t, "%s", c->path);
		df_table_cell(&t, "%s", type_names[c->type]);
		if (c->matrix)
			df_table_cell(&t, "[%" PRIu64 ", %zu]", u->rows, df_set_width(s, (enum df_col)i));
		else if (c->offsets)
			df_table_cell(&t, "[%" PRIu64 ", ragged]", u->rows);
		else
			df_table_cell(&t, "[%" PRIu64 "]", u->rows);
		stats_row(&t, &u->col[i], !is_name((enum df_col)i), c->type >= DF_COL_F32);
		/* The label mask, positions and sequences have the same lengths as the ids. */
		if (c->offsets && (i == DF_COL_IDS || strcmp(c->offsets, df_column(DF_COL_IDS)->offsets) != 0)) {
			df_table_cell(&t, "%s", i == DF_COL_IDS ? "  tokens per row" : "  values per row");
			df_table_cell(&t, "%s", "");
			df_table_cell(&t, "%s", "");
			stats_row(&t, &u->length[i], true, false);
		}
		if (i == DF_COL_LABEL_MASK) {
			df_table_cell(&t, "  targets per row");
			df_table_cell(&t, "%s", "");
			df_table_cell(&t, "%s", "");
			stats_row(&t, &u->targets, true, false);
		}
	}
	df_buf_putc(out, '\n');
	DF_TRY(df_table_print(&t, "  ", out, err));
out:
	df_table_release(&t);
	return rc;
}

static int
print_domains(const struct df_summary *u, const struct df_set *s, struct df_buf *out, struct df_err *err)
{
	const struct df_meta *m = df_set_meta(s);
	bool has_tokens = df_set_has(s, DF_COL_IDS), has_loss = df_set_has(s, DF_COL_LOSS);
	bool has_targets = df_set_has(s, DF_COL_LABEL_MASK) || df_set_has(s, DF_COL_N_TOKENS);
	struct df_table t = DF_TABLE_INIT("lrrrrr");
	int rc;

	df_table_cell(&t, "domain");
	df_table_cell(&t, "rows");
	df_table_cell(&t, "share");
	df_table_cell(&t, "%s", has_tokens ? "tokens" : "");
	df_table_cell(&t, "%s", has_targets ? "targets" : "");
	df_table_cell(&t, "%s", has_loss ? "mean loss" : "");
	for (size_t d = 0; d < u->n_domains; d++) {
		const struct df_domain_stats *x = &u->domain[d];

		df_table_cell(&t, "%s", m->domains[d]);
		df_table_cell(&t, "%" PRIu64, x->rows);
		df_table_cell(&t, "%.1f%%", u->rows ? 100.0 * (double)x->rows / (double)u->rows : 0.0);
		df_table_number(&t, has_tokens ? (double)x->tokens : NAN);
		df_table_number(&t, has_targets ? (double)x->targets : NAN);
		df_table_number(&t, has_loss ? x->loss : NAN);
	}
	df_buf_putc(out, '\n');
	DF_TRY(df_table_print(&t, "  ", out, err));
out:
	df_table_release(&t);
	return rc;
}

static int
print_weights(const struct df_summary *u, const struct df_set *s, struct df_buf *out, struct df_err *err)
{
	const struct df_meta *m = df_set_meta(s);
	struct df_table t = DF_TABLE_INIT("lr");
	int rc;

	df_table_cell(&t, "domain");
	df_table_cell(&t, "weight");
	for (uint64_t d = 0; d < u->rows; d++) {
		if (d < m->n_domains)
			df_table_cell(&t, "%s", m->domains[d]);
		else
			df_table_cell(&t, "%" PRIu64, d);
		df_table_number(&t, u->domain_weight[d]);
	}
	df_buf_putc(out, '\n');
	DF_TRY(df_table_print(&t, "  ", out, err));
out:
	df_table_release(&t);
	return rc;
}

static int
print_manifest(const struct df_set *s, struct df_buf *out, struct df_err *err)
{
	const struct df_meta *m = df_set_meta(s);
	struct df_table t = DF_TABLE_INIT("lrl");
	size_t n = m->n_manifest, shown = n > 12 ? 8 : n;
	int rc;

	df_table_cell(&t, "coordinates");
	df_table_cell(&t, "from");
	df_table_cell(&t, "shape");
	for (size_t i = 0; i < n; i++) {
		const struct df_manifest_row *r = &m->manifest[i];

		if (i == shown) {
			df_table_cell(&t, "... %zu more", n - shown);
			df_table_cell(&t, "%s", "");
			df_table_cell(&t, "%s", "");
			break;
		}
		df_table_cell(&t, "%s", r->name);
		df_table_cell(&t, "%" PRIu64, r->offset);
		df_table_cell(&t, "[%" PRIu64 ", %" PRIu64 "]", r->rows, r->cols);
	}
	df_buf_putc(out, '\n');
	DF_TRY(df_table_print(&t, "  ", out, err));
out:
	df_table_release(&t);
	return rc;
}

int
df_summary_text(const struct df_summary *u, const struct df_set *s, struct df_buf *out, struct df_err *err)
{
	int rc;

	DF_TRY(print_head(u, s, out, err));
	DF_TRY(print_columns(u, s, out, err));
	if (u->n_domains > 0)
		DF_TRY(print_domains(u, s, out, err));
	if (u->domain_weight)
		DF_TRY(print_weights(u, s, out, err));
	if (df_set_meta(s)->n_manifest > 0)
		DF_TRY(print_manifest(s, out, err));
out:
	return rc;
}

/* ---- JSON */

static void
json_stats(struct df_buf *out, const struct df_col_stats *st, bool mean)
{
	df_buf_puts(out, "{\"min\": ");
	df_buf_json_double(out, st->min);
	if (mean) {
		df_buf_puts(out, ", \"mean\": ");
		df_buf_json_double(out, st->mean);
	}
	df_buf_puts(out, ", \"max\": ");
	df_buf_json_double(out, st->max);
	df_buf_printf(out, ", \"not_finite\": %" PRIu64 "}", st->nan);
}

static void
json_columns(const struct df_summary *u, const struct df_set *s, struct df_buf *out)
{
	const char *comma = "";

	df_buf_puts(out, ", \"columns\": {");
	for (int i = 0; i < DF_COL_COUNT; i++) {
		const struct df_column *c = df_column((enum df_col)i);

		if (!df_set_has(s, (enum df_col)i))
			continue;
		df_buf_printf(out, "%s\"%s\": {\"type\": \"%s\", \"shape\": [%" PRIu64, comma, c->path,
		    type_names[c->type], u->rows);
		if (c->matrix)
			df_buf_printf(out, ", %zu", df_set_width(s, (enum df_col)i));
		df_buf_puts(out, "], \"stats\": ");
		json_stats(out, &u->col[i], !is_name((enum df_col)i));
		if (c->offsets) {
			df_buf_printf(out, ", \"values\": %" PRIu64 ", \"per_row\": ", u->col[i].n);
			json_stats(out, i == DF_COL_LABEL_MASK ? &u->targets : &u->length[i], true);
		}
		df_buf_putc(out, '}');
		comma = ", ";
	}
	df_buf_putc(out, '}');
}

static void
json_domains(const struct df_summary *u, const struct df_set *s, struct df_buf *out)
{
	df_buf_puts(out, ", \"domains\": {");
	for (size_t d = 0; d < u->n_domains; d++) {
		const struct df_domain_stats *x = &u->domain[d];

		df_buf_puts(out, d ? ", " : "");
		df_buf_json_str(out, df_set_meta(s)->domains[d]);
		df_buf_printf(out, ": {\"rows\": %" PRIu64, x->rows);
		if (df_set_has(s, DF_COL_IDS))
			df_buf_printf(out, ", \"tokens\": %" PRIu64, x->tokens);
		if (df_set_has(s, DF_COL_LABEL_MASK) || df_set_has(s, DF_COL_N_TOKENS))
			df_buf_printf(out, ", \"targets\": %" PRIu64, x->targets);
		if (df_set_has(s, DF_COL_LOSS)) {
			df_buf_puts(out, ", \"loss\": ");
			df_buf_json_double(out, x->loss);
		}
		df_buf_putc(out, '}');
	}
	df_buf_putc(out, '}');
}

/* In order, as [name, weight]: names need not differ, or be there. */
static void
json_weights(const struct df_summary *u, const struct df_set *s, struct df_buf *out)
{
	const struct df_meta *m = df_set_meta(s);

	df_buf_puts(out, ", \"domain_weights\": [");
	for (uint64_t d = 0; d < u->rows; d++) {
		df_buf_puts(out, d ? ", [" : "[");
		df_buf_json_str(out, d < m->n_domains ? m->domains[d] : "");
		df_buf_puts(out, ", ");
		df_buf_json_double(out, u->domain_weight[d]);
		df_buf_putc(out, ']');
	}
	df_buf_putc(out, ']');
}

int
df_summary_json(const struct df_summary *u, const struct df_set *s, struct df_buf *out, struct df_err *err)
{
	const struct df_meta *m = df_set_meta(s);

	df_buf_puts(out, "{\"file\": ");
	df_buf_json_str(out, df_set_name(s));
	df_buf_printf(out,
	    ", \"kind\": \"%s\", \"rows\": %" PRIu64 ", \"id\": \"%s\", \"tool\": ", df_kind_name(m->kind), u->rows,
	    m->id);
	df_buf_json_str(out, m->tool ? m->tool : "");
	df_buf_puts(out, ", \"version\": ");
	df_buf_json_str(out, m->version ? m->version : "");
	df_buf_puts(out, ", \"params\": ");
	df_meta_params_json(m, out);
	df_buf_puts(out, ", \"inputs\": ");
	df_meta_inputs_json(m, out);
	json_columns(u, s, out);
	if (u->n_domains > 0)
		json_domains(u, s, out);
	if (u->domain_weight)
		json_weights(u, s, out);
	df_buf_puts(out, "}\n");
	return df_buf_check(out, err);
}
