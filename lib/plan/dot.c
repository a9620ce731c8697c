/*
 * dot.c - a plan as a graph for Graphviz: dot -Tsvg.
 *
 * Boxes are stages, coloured by what they do; an arrow is labelled with the files that go along it.  A stage that waits
 * for another and for one before that one has an arrow from the later one only: the picture stays a chain where the run
 * is one.  The tooltip of a box is its command.
 */
#include <string.h>

#include "base/path.h"
#include "plan/edges.h"
#include "plan/print.h"
#include "plan/shell.h"

/* Append s within a dot string; newlines are written as \n. */
static void
add_text(struct df_buf *out, const char *s)
{
	for (; *s != '\0'; s++) {
		if (*s == '"' || *s == '\\')
			df_buf_putc(out, '\\');
		if (*s == '\n')
			df_buf_puts(out, "\\n");
		else
			df_buf_putc(out, *s);
	}
}

static const char *
colour(const struct df_plan_node *node)
{
	static const struct {
		const char *program, *colour;
	} colours[] = {
		{ "df-pack", "#eeeeee" },
		{ "df-train", "#cfe2f3" },
		{ "df-grad", "#fce5cd" },
		{ "df-embed", "#fce5cd" },
		{ "df-sample", "#fce5cd" },
		{ "df-score", "#d9ead3" },
		{ "df-mix", "#d9ead3" },
	};

	for (size_t i = 0; i < sizeof(colours) / sizeof(*colours); i++)
		if (node->argv.n > 0 && strcmp(node->argv.v[0], colours[i].program) == 0)
			return colours[i].colour;
	return "#ffffff";
}

/* How a file is called beside an arrow: by its last name, or that of its directory, which appears whole. */
static void
add_file(struct df_buf *out, const struct df_plan *p, const char *file)
{
	const size_t n = strlen(p->out);

	if (strncmp(file, p->out, n) == 0 && file[n] == '/')
		file += n + 1;
	add_text(out, file);
}

static bool
is_in(const struct df_strlist *list, const char *file)
{
	for (size_t i = 0; i < list->n; i++)
		if (strcmp(list->v[i], file) == 0)
			return true;
	return false;
}

/* The files of `from` that `to` reads; of parts, the first and how many. */
static void
print_edge(const struct df_plan *p, size_t from, size_t to, struct df_buf *out)
{
	const struct df_plan_node *f = &p->node[from];
	size_t n = 0;

	df_buf_printf(out, "\t\"%s\" -> \"%s\" [label=\"", f->name, p->node[to].name);
	for (size_t k = 0; k < f->out.n && (n == 0 || f->shards == 0); k++) {
		if (!is_in(&p->node[to].in, f->out.v[k]))
			continue;
		if (n++ > 0)
			df_buf_puts(out, "\\n");
		add_file(out, p, f->out.v[k]);
	}
	if (f->shards > 1)
		df_buf_printf(out, "\\nand %zu more", f->shards - 1);
	df_buf_puts(out, "\"]\n");
}

static void
print_node(const struct df_plan_node *node, struct df_buf *out)
{
	struct df_buf command = DF_BUF_INIT;

	df_print_command(&command, node, "I/N", "    ");
	df_buf_printf(out, "\t\"%s\" [label=\"%s", node->name, node->name);
	if (node->shards > 0)
		df_buf_printf(out, " (%zu parts)", node->shards);
	df_buf_puts(out, "\\n");
	add_text(out, node->about);
	df_buf_printf(
	    out, "\", fillcolor=\"%s\"%s, tooltip=\"", colour(node), node->shards > 0 ? ", peripheries=2" : "");
	add_text(out, command.data != NULL ? command.data : "");
	df_buf_puts(out, "\"]\n");
	out->failed = out->failed || command.failed;
	df_buf_release(&command);
}

static int
print(const struct df_plan *p, struct df_buf *out, struct df_err *err)
{
	struct df_plan_edges e = { 0 };
	int rc = DF_OK;

	DF_TRY(df_plan_edges_find(&e, p, err));
	DF_TRY(df_plan_edges_reduce(&e, p, err));
	df_buf_puts(out, "digraph plan {\n\tlabel=\"");
	add_text(out, p->source);
	df_buf_puts(out,
	    "\"\n"
	    "\tlabelloc=t\n"
	    "\tfontname=\"Helvetica\"\n"
	    "\tnode [shape=box, style=\"filled,rounded\", fontname=\"Helvetica\", fontsize=11]\n"
	    "\tedge [fontname=\"Helvetica\", fontsize=9, color=\"#666666\", fontcolor=\"#666666\"]\n");
	for (size_t i = 0; i < p->n; i++)
		print_node(&p->node[i], out);
	for (size_t i = 0; i < p->n; i++)
		for (size_t k = e.first[i]; k < e.first[i + 1]; k++)
			print_edge(p, e.from[k], i, out);
	df_buf_puts(out, "}\n");
	rc = df_buf_check(out, err);
out:
	df_plan_edges_release(&e);
	return rc;
}

const struct df_printer df_print_dot = { "dot", "a graph for Graphviz", print };
