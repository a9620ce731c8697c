/*
 * df-score - score, rank and select samples: the method's name first, then what it needs.
 *
 * The first operand is the method, and decides the table by which the command line is parsed: the options that all
 * methods share, and those of this one (lib/select).
 *
 * With --plugin a child does all this, and hands its choice over: what a plug-in breaks is the child's.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/pool.h"
#include "prog.h"
#include "rows.h"
#include "select/apart.h"
#include "select/plugin.h"
#include "select/select.h"

struct run {
	const char *output, *scores_output, *plugin;
	bool list;
	struct df_select_words words;
	struct df_prog_common common;
	const struct df_opt_result *args;
	const struct df_selector *method, *foreign; /* foreign: of the plug-in */
	void *options;                              /* the method's own */
	struct df_opt_table table;
	struct df_buf synopsis, about;
	struct df_select in;
	struct df_selection out;
};

/* ---- the option table -------------------------------------------------------------- */

/* The table of the method, or of df-score alone. */
static int
make_table(struct run *r, struct df_err *err)
{
	const struct df_selector *m = r->method;
	/* clang-format off */
	const struct df_opt first[] = {
		{ .type = DF_OPT_GROUP, .help = "What to choose from" },
		{ .name = "list", .type = DF_OPT_FLAG, .value = &r->list, .help = "print the methods and exit" },
		{ .name = "plugin", .type = DF_OPT_STR, .value = &r->plugin, .arg = "FILE", .file = DF_FILE_READ,
		    .help = "a shared library with a METHOD of yours; before METHOD" },
	}, own = { .type = DF_OPT_GROUP, .help = m ? m->name : NULL }, last[] = {
		{ .type = DF_OPT_GROUP, .help = "Output" },
		DF_PROG_OUTPUT(&r->output, 0, "the index"),
		{ .name = "scores-output", .type = DF_OPT_STR, .value = &r->scores_output, .arg = "FILE", .file = DF_FILE_WRITE,
		    .help = "every row's score and rank too" },
		{ .type = DF_OPT_OPERANDS, .arg = m ? "FILE" : "METHOD", .file = m ? DF_FILE_READ : DF_FILE_NONE },
		DF_PROG_OPTS(&r->common),
	}, end = DF_OPT_END;
	/* clang-format on */
	int rc = DF_OK;

	r->table.n = 0;
	DF_TRY(df_opt_table_add(&r->table, first, sizeof(first) / sizeof(first[0]), err));
	DF_TRY(df_select_rows(m, &r->in, &r->words, &r->table, err));
	if (m) {
		DF_TRY(df_selector_defaults(m, &r->options, err));
		DF_TRY(df_opt_table_add(&r->table, &own, 1, err));
		DF_TRY(df_selector_rows(m, &r->in, r->options, &r->table, err));
	}
	DF_TRY(df_opt_table_add(&r->table, last, sizeof(last) / sizeof(last[0]), err));
	DF_TRY(df_selector_rows_elsewhere(m, &r->table, err));
	DF_TRY(df_opt_table_add(&r->table, &end, 1, err));
out:
	return rc;
}

static int
find_method(struct run *r, const char *name, int argc, char **argv, struct df_err *err)
{
	int rc;

	if (r->foreign && strcmp(r->foreign->name, name) == 0) {
		r->method = r->foreign;
		return DF_OK;
	}
	rc = df_selector_find(&r->method, name, err);
	if (rc != DF_OK && r->foreign)
		df_err_suffix(err, "; the plug-in's is '%s'", r->foreign->name);
	for (int i = 1; rc != DF_OK && !r->foreign && i < argc; i++)
		if (strncmp(argv[i], "--plugin", 8) == 0)
			df_err_suffix(err, "; --plugin must come before it");
	return rc;
}

/* Find the method and take it out of argv, so that its table says what the operands are. */
static int
parse(struct run *r, int argc, char **argv, struct df_err *err)
{
	int at, rc, found = DF_OK;

	DF_TRY(make_table(r, err));
	at = df_opt_first_operand(r->table.v, argc, argv);
	if (at < argc && (found = find_method(r, argv[at], argc, argv, err)) == DF_OK) {
		memmove(argv + at, argv + at + 1, (size_t)(argc - at) * sizeof(*argv));
		argc--;
		DF_TRY(make_table(r, err));
	} else if (at < argc) {
		argc = at; /* what follows a word that is no method cannot be judged */
	}
	df_selector_help(r->method, &r->synopsis, &r->about);
	DF_TRY(df_buf_check(&r->synopsis, err));
	DF_TRY(df_buf_check(&r->about, err));
	r->args = df_prog_parse(r->table.v, r->synopsis.data, r->about.data, &r->common, argc, argv);
	rc = found;
out:
	return rc;
}

/* ---- the program ------------------------------------------------------------------- */

static int
print_methods(const struct run *r, struct df_err *err)
{
	struct df_buf list = DF_BUF_INIT;

	df_selector_list(r->foreign, &list);
	return df_prog_print(&list, err);
}

static int
choose(struct run *r, struct df_err *err)
{
	struct df_select *in = &r->in;
	struct df_env env = { 0 };
	int rc = DF_OK;

	if (!r->method)
		return df_fail(err, DF_EUSAGE, "which method?  df-score --list names them");
	if (r->plugin && r->method != r->foreign)
		return df_fail(
		    err, DF_EUSAGE, "--plugin: '%s' is no method of it; --plugin comes before METHOD", r->method->name);
	if (!r->output && !r->scores_output)
		return df_fail(err, DF_EUSAGE, "-o FILE is missing");
	DF_TRY(df_select_ask(in, &r->words, err));
	in->foreign = r->foreign != NULL;
	in->more = r->args->operands;
	DF_TRY(df_prog_env(&env, &r->common, DF_ENV_WIDE, err));
	in->pool = env.pool;
	in->be = env.be;
	in->n_threads = df_pool_size(in->pool);
	DF_TRY(df_meta_set_tool(&r->out.meta, "df-score", err));
	DF_TRY(df_select_run(r->method, in, r->options, &r->out, err));
	if (r->scores_output && !r->out.score)
		rc = df_fail(err, DF_EUSAGE, "%s: this choice is made without scores", r->scores_output);
out:
	df_env_close(&env);
	return rc;
}

static int
write_choice(struct df_selection *s, const char *index, const char *scores, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(df_selection_report(s, err));
	DF_TRY(df_selection_write(s, index, scores, err));
	df_prog_count(s->n_rows, "rows");
out:
	return rc;
}

static void
close_run(struct run *r)
{
	free(r->table.v);
	df_selector_free(r->method, r->options);
	df_buf_release(&r->synopsis);
	df_buf_release(&r->about);
	df_select_release(&r->in);
	df_selection_release(&r->out);
}

/* ---- a plug-in ---------------------------------------------------------------------- */

/* The child's choice, for the parent. */
static int
give(struct run *r, struct df_apart *a, struct df_err *err)
{
	struct df_apart_choice c = { .index = (char *)(uintptr_t)r->output,
		.scores = (char *)(uintptr_t)r->scores_output,
		.quiet = r->common.quiet,
		.verbose = r->common.verbose };
	int rc = DF_OK;

	DF_TRY(df_selection_probabilities(&r->out, err));
	c.selection = r->out;
	rc = df_apart_give(a, &c, err);
out:
	return rc;
}

/* What the command line asks for; `a`: on behalf of another process. */
static int
select_rows(struct run *r, struct df_apart *a, struct df_err *err)
{
	int rc = DF_OK;

	if (r->list)
		return print_methods(r, err);
	if (a)
		df_apart_reach(a, DF_APART_RUNNING);
	DF_TRY(choose(r, err));
	rc = a ? give(r, a, err) : write_choice(&r->out, r->output, r->scores_output, err);
out:
	return rc;
}

/* The child: its exit status. */
static int
be_child(struct run *r, struct df_apart *a, const char *plugin, int argc, char **argv)
{
	struct df_err err = DF_ERR_INIT, after = DF_ERR_INIT;
	int rc, parsed;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	rc = df_plugin_load(&r->foreign, plugin, &err);
	df_apart_reach(a, DF_APART_PARSING);
	/* A wrong command line is told before a plug-in that cannot be loaded. */
	parsed = parse(r, argc, argv, rc == DF_OK ? &err : &after);
	DF_TRY(rc == DF_OK ? parsed : rc);
	rc = select_rows(r, a, &err);
out:
	if (rc != DF_OK)
		df_apart_reach(a, DF_APART_TOLD);
	close_run(r);
	df_apart_close(a);
	return df_prog_exit(rc, &err);
}

/* *status = what the child ended with, when it has told the user why; -1: it chose, and the choice is written. */
static int
run_apart(struct run *r, const char *plugin, int argc, char **argv, int *status, struct df_err *err)
{
	struct df_apart_choice c = DF_APART_CHOICE_INIT;
	struct df_apart a = { .fd = -1 };
	pid_t child;
	int rc = DF_OK;

	DF_TRY(df_apart_open(&a, err));
	child = fork();
	if (child < 0) {
		rc = df_fail(err, DF_ENOMEM, "a process for the plug-in:");
		goto out;
	}
	if (child == 0)
		exit(be_child(r, &a, plugin, argc, argv));
	DF_TRY(df_apart_wait(&a, child, plugin, status, err));
	if (*status >= 0)
		goto out;
	DF_TRY(df_apart_take(&a, &c, err));
	df_prog_voice(&(struct df_prog_common){ .quiet = c.quiet, .verbose = c.verbose });
	rc = write_choice(&c.selection, c.index, c.scores, err);
out:
	df_apart_choice_release(&c);
	df_apart_close(&a);
	return rc;
}

/* ---- main --------------------------------------------------------------------------- */

int
main(int argc, char **argv)
{
	static struct run r = {
		.words = DF_SELECT_WORDS_INIT, .common = DF_PROG_COMMON_DEFAULT, .out = DF_SELECTION_INIT
	};
	struct df_err err = DF_ERR_INIT;
	const char *plugin;
	int rc = DF_OK, status = -1;

	df_prog_init("df-score");
	DF_TRY(make_table(&r, &err));
	plugin = df_opt_peek(r.table.v, argc, argv, "plugin");
	if (plugin) {
		rc = run_apart(&r, plugin, argc, argv, &status, &err);
	} else {
		DF_TRY(parse(&r, argc, argv, &err));
		rc = select_rows(&r, NULL, &err);
	}
out:
	close_run(&r);
	return status >= 0 ? status : df_prog_exit(rc, &err);
}
