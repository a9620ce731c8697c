/*
 * dry_run.c - a plan as a table of what its commands cost.
 */
#include <stdio.h>
#include <string.h>

#include "plan/print.h"

#define CELL 24

/* Three digits and a unit: "2400", "118 k", "1.2 M"; "-" for 0. */
static const char *
amount(char s[CELL], double x, bool about, double whole, const char *const *units)
{
	size_t i = 0;

	if (x <= 0) {
		snprintf(s, CELL, "-");
		return s;
	}
	if (x < whole) {
		snprintf(s, CELL, "%s%.0f%s", about ? "~" : "", x, units[0]);
		return s;
	}
	while (x >= 999.5 && units[i + 1] != NULL) {
		x /= 1000;
		i++;
	}
	snprintf(s, CELL, "%s%.*f%s", about ? "~" : "", x < 9.95 ? 1 : 0, x, units[i]);
	return s;
}

static const char *
count(char s[CELL], double x, bool about)
{
	static const char *const units[] = { "", " k", " M", " G", " T", NULL };

	return amount(s, x, about, 99999.5, units);
}

static const char *
bytes(char s[CELL], double x, bool about)
{
	static const char *const units[] = { " B", " kB", " MB", " GB", " TB", NULL };

	return amount(s, x, about, 999.5, units);
}

static const char *
work(char s[CELL], double flops)
{
	static const char *const units[] = { " GFLOP", " TFLOP", " PFLOP", " EFLOP", NULL };

	return amount(s, flops / 1e9, true, 0, units);
}

static const char *
duration(char s[CELL], double seconds)
{
	if (seconds <= 0)
		snprintf(s, CELL, "-");
	else if (seconds < 0.95)
		snprintf(s, CELL, "~%.1f s", seconds);
	else if (seconds < 99.5)
		snprintf(s, CELL, "~%.0f s", seconds);
	else if (seconds < 99.5 * 60)
		snprintf(s, CELL, "~%.0f min", seconds / 60);
	else if (seconds < 99.5 * 3600)
		snprintf(s, CELL, "~%.0f h", seconds / 3600);
	else
		snprintf(s, CELL, "~%.0f d", seconds / 86400);
	return s;
}

static void
print_row(const char *name, int width, const struct df_plan_cost *k, double rate, struct df_buf *out)
{
	char rows[CELL], steps[CELL], tokens[CELL], flops[CELL], memory[CELL], disk[CELL], seconds[CELL];

	df_buf_printf(out, "%-*s %8s %8s %9s %11s %9s %9s", width, name, count(rows, k->rows, false),
	    count(steps, k->steps, false), count(tokens, k->tokens, k->guessed), work(flops, k->flops),
	    bytes(memory, k->memory, true), bytes(disk, k->disk, true));
	if (rate > 0)
		df_buf_printf(out, " %9s", duration(seconds, DF_PLAN_SLOWER * k->flops / rate));
	df_buf_putc(out, '\n');
}

static int
print(const struct df_plan *p, struct df_buf *out, struct df_err *err)
{
	struct df_plan_cost all = { 0 };
	int width = 10;

	for (size_t i = 0; i < p->n; i++) {
		const struct df_plan_cost *k = &p->node[i].cost;
		const int n = (int)strlen(p->node[i].name);

		width = n > width ? n : width;
		all.steps += k->steps;
		all.flops += k->flops;
		all.disk += k->disk;
		all.memory = k->memory > all.memory ? k->memory : all.memory;
		all.guessed = all.guessed || k->guessed;
	}
	df_buf_printf(out, "%-*s %8s %8s %9s %11s %9s %9s%s\n", width, "stage", "rows", "steps", "tokens", "work",
	    "memory", "disk", p->rate > 0 ? "      time" : "");
	for (size_t i = 0; i < p->n; i++)
		print_row(p->node[i].name, width, &p->node[i].cost, p->rate, out);
	print_row("all", width, &all, p->rate, out);
	df_buf_puts(out, "\n~ about.  Memory: the most of one process; the sum is that of the largest.\n");
	if (all.guessed)
		df_buf_puts(
		    out, "Rows and tokens are counted as soon as the token file of the first stage is there.\n");
	if (p->rate > 0)
		df_buf_printf(out, "Time: one stage after the other on this machine, at %.3g GFLOP/s (measured now).\n",
		    p->rate / 1e9);
	return df_buf_check(out, err);
}

const struct df_printer df_print_dry_run = { "dry-run", "what each command costs", print };
