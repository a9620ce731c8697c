/*
 * why_print.c - what is known about a choice, as text or as a line of JSON.
 */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "show/table.h"
#include "show/why.h"

/* ---- text ------------------------------------------------------------------------- */

/* The verdict, in one line. */
static void
verdict(const struct df_why *w, struct df_buf *out)
{
	df_buf_printf(out, "%s: sample %" PRIu64, w->index_path, w->id);
	if (w->domain)
		df_buf_printf(out, ", %s", w->domain);
	if (w->has_row)
		df_buf_printf(out, " row %" PRIu64, w->source_row);
	if (w->n_times) {
		df_buf_printf(out, ": chosen, place %" PRIu64 " of %" PRIu64, w->place, w->n_index);
		if (w->n_times > 1)
			df_buf_printf(out, " and %" PRIu64 " more", w->n_times - 1);
	} else {
		df_buf_puts(out, ": not chosen");
		if (w->excluded)
			df_buf_puts(out, ", it was excluded");
		else if (w->has_score && !isfinite(w->score))
			df_buf_puts(out, ", it is invalid: its score is not finite");
		else if (w->pairs_decide && w->earlier.n)
			df_buf_printf(out, ", it is a near-duplicate of %" PRIu64, w->earlier.v[0].id);
		else if (w->has_score && w->has_last && w->score < w->last)
			df_buf_puts(out, ", its score is below that of all that were");
	}
	df_buf_putc(out, '\n');
}

static void
put_score(const struct df_why *w, struct df_table *t)
{
	struct df_buf b = DF_BUF_INIT;

	if (w->has_score || w->has_last) {
		if (w->has_score)
			df_buf_printf(&b, "%.6g", (double)w->score);
		else
			df_buf_puts(&b, "not known");
		if (w->has_last)
			df_buf_printf(&b, "; the lowest that was chosen is %.6g", (double)w->last);
		df_table_cell(t, "%s", "score");
		df_table_cell(t, "%s", b.data ? b.data : "");
	}
	if (w->has_rank) {
		df_table_cell(t, "%s", "rank");
		df_table_cell(t, "%" PRIu64 " of %" PRIu64 ", from 0", w->rank, w->n_ranked);
	}
	if (w->has_probability) {
		df_table_cell(t, "%s", "probability");
		df_table_cell(t, "%.6g, %.4g times the mean", w->probability, w->probability * (double)w->n_ranked);
	}
	if (w->has_cluster && w->cluster == UINT32_MAX) {
		df_table_cell(t, "%s", "cluster");
		df_table_cell(t, "%s", "none");
	} else if (w->has_cluster) {
		df_table_cell(t, "%s", "cluster");
		df_table_cell(t, "%" PRIu32 ", of %" PRIu64 " samples", w->cluster, w->cluster_rows);
	}
	df_buf_release(&b);
}

static void
put_tasks(const struct df_why *w, struct df_table *t)
{
	size_t best = 0;

	for (size_t i = 1; i < w->n_tasks; i++)
		if (w->task[i].value > w->task[best].value)
			best = i;
	for (size_t i = 0; i < w->n_tasks; i++) {
		df_table_cell(t, "%s", i ? "" : "subtask");
		df_table_cell(t, "%s %.6g, %" PRIu64 " rows%s", w->task[i].name, w->task[i].value, w->task[i].n,
		    i == best && w->n_tasks > 1 ? ", the best" : "");
	}
}

/* The rows of a list, a line each, with what their value is. */
static int
put_rows(const struct df_why_rows *rows, const char *what, const char *value, bool ranks, struct df_buf *out,
    struct df_err *err)
{
	struct df_table t = DF_TABLE_INIT("rll");
	int rc = DF_OK;

	if (rows->n == 0)
		goto out;
	df_buf_printf(out, "  %s", what);
	if (rows->n_all > rows->n)
		df_buf_printf(out, ", %zu of %" PRIu64, rows->n, rows->n_all);
	df_buf_printf(out, ", with %s:\n", value);
	for (size_t i = 0; i < rows->n; i++) {
		df_table_cell(&t, "%" PRIu64, rows->v[i].id);
		if (ranks)
			df_table_cell(&t, "%.6g, neighbour %" PRIu64, rows->v[i].value, rows->v[i].rank);
		else
			df_table_cell(&t, "%.6g", rows->v[i].value);
		df_table_cell(&t, "%s", rows->v[i].text ? rows->v[i].text : "");
	}
	DF_TRY(df_table_print(&t, "    ", out, err));
out:
	df_table_release(&t);
	return rc;
}

static int
print_text(const struct df_why *w, struct df_buf *out, struct df_err *err)
{
	struct df_table t = DF_TABLE_INIT("ll");
	int rc;

	verdict(w, out);
	if (w->text.len) {
		df_table_cell(&t, "%s", "text");
		df_table_cell(&t, "%s", w->text.data);
	}
	if (w->method) {
		df_table_cell(&t, "%s", "method");
		df_table_cell(&t, "%s", w->method);
	}
	put_score(w, &t);
	put_tasks(w, &t);
	DF_TRY(df_table_print(&t, "  ", out, err));
	DF_TRY(put_rows(&w->val, "validation rows that it serves most", "their influence", false, out, err));
	DF_TRY(put_rows(&w->queries, "target rows whose neighbour it is", "the distance", true, out, err));
	DF_TRY(put_rows(&w->earlier, "near-duplicates that come before it", "the cosine", false, out, err));
	DF_TRY(put_rows(&w->later, "near-duplicates that come after it", "the cosine", false, out, err));
	if (w->more.len) {
		df_buf_puts(out, "  these would tell more, beside the index or named after it:\n");
		for (const char *line = w->more.data; *line;) {
			const size_t n = strcspn(line, "\n");

			df_buf_printf(out, "    %.*s\n", (int)n, line);
			line += n + 1;
		}
	}
out:
	df_table_release(&t);
	return rc;
}

/* ---- JSON ------------------------------------------------------------------------------ */

static void
json_rows(const struct df_why_rows *rows, const char *name, const char *value, bool ranks, struct df_buf *out)
{
	if (rows->n == 0)
		return;
	df_buf_printf(out, ", \"%s\": [", name);
	for (size_t i = 0; i < rows->n; i++) {
		df_buf_printf(out, "%s{\"id\": %" PRIu64 ", \"%s\": ", i ? ", " : "", rows->v[i].id, value);
		df_buf_json_double(out, rows->v[i].value);
		if (ranks)
			df_buf_printf(out, ", \"rank\": %" PRIu64, rows->v[i].rank);
		if (rows->v[i].text) {
			df_buf_puts(out, ", \"text\": ");
			df_buf_json_str(out, rows->v[i].text);
		}
		df_buf_putc(out, '}');
	}
	df_buf_putc(out, ']');
}

static void
json_str(struct df_buf *out, const char *key, const char *value)
{
	if (!value)
		return;
	df_buf_printf(out, ", \"%s\": ", key);
	df_buf_json_str(out, value);
}

static void
json_number(struct df_buf *out, const char *key, double value)
{
	df_buf_printf(out, ", \"%s\": ", key);
	df_buf_json_double(out, value);
}

static void
print_json(const struct df_why *w, struct df_buf *out)
{
	df_buf_puts(out, "{\"file\": ");
	df_buf_json_str(out, w->index_path);
	df_buf_printf(out, ", \"id\": %" PRIu64 ", \"chosen\": %s", w->id, w->n_times ? "true" : "false");
	if (w->n_times)
		df_buf_printf(out, ", \"place\": %" PRIu64 ", \"times\": %" PRIu64, w->place, w->n_times);
	df_buf_printf(out, ", \"index_rows\": %" PRIu64, w->n_index);
	if (w->excluded)
		df_buf_puts(out, ", \"excluded\": true");
	json_str(out, "method", w->method);
	json_str(out, "domain", w->domain);
	if (w->has_row)
		df_buf_printf(out, ", \"source_row\": %" PRIu64, w->source_row);
	json_str(out, "text", w->text.len ? w->text.data : NULL);
	if (w->has_score)
		json_number(out, "score", (double)w->score);
	if (w->has_last)
		json_number(out, "threshold", (double)w->last);
	if (w->has_rank)
		df_buf_printf(out, ", \"rank\": %" PRIu64 ", \"ranked\": %" PRIu64, w->rank, w->n_ranked);
	if (w->has_probability)
		json_number(out, "probability", w->probability);
	if (w->has_cluster)
		df_buf_printf(
		    out, ", \"cluster\": %" PRIu32 ", \"cluster_rows\": %" PRIu64, w->cluster, w->cluster_rows);
	for (size_t i = 0; i < w->n_tasks; i++) {
		df_buf_puts(out, i ? ", " : ", \"subtasks\": {");
		df_buf_json_str(out, w->task[i].name);
		df_buf_puts(out, ": ");
		df_buf_json_double(out, w->task[i].value);
	}
	df_buf_puts(out, w->n_tasks ? "}" : "");
	json_rows(&w->val, "validation", "influence", false, out);
	json_rows(&w->queries, "queries", "distance", true, out);
	json_rows(&w->earlier, "duplicates_before", "cosine", false, out);
	json_rows(&w->later, "duplicates_after", "cosine", false, out);
	for (const char *line = w->more.len ? w->more.data : ""; *line;) {
		const size_t n = strcspn(line, "\n");

		df_buf_puts(out, line == w->more.data ? ", \"more\": [" : ", ");
		df_buf_json_strn(out, line, n);
		line += n + 1;
	}
	df_buf_puts(out, w->more.len ? "]}\n" : "}\n");
}

int
df_why_print(const struct df_why *w, bool json, struct df_buf *out, struct df_err *err)
{
	int rc = DF_OK;

	if (json)
		print_json(w, out);
	else
		DF_TRY(print_text(w, out, err));
	rc = df_buf_check(out, err);
out:
	return rc;
}
