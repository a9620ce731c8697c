/*
 * df-mix - the proportions of domains that a model trains on next: the method's name first, then what it learns from.
 *
 * The first operand is the method, and decides the table by which the command line is parsed: the options that all
 * methods share, the files that this one reads, and its own options (lib/mix).  The output holds the method's state,
 * with which the next call goes on.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/inout.h"
#include "base/log.h"
#include "base/mem.h"
#include "mix/line.h"
#include "mix/measure.h"
#include "mix/mix.h"
#include "mix/plugin.h"
#include "mix/weights.h"
#include "prog.h"
#include "rows.h"

#define CONVERGED 1e-3                     /* the largest change of a weight that ends the rounds of DoReMi */
#define ROW       "%-12s %-30s %-11s %s\n" /* of --list */

static const char *const layers[] = { "last", "mean", NULL };

struct run {
	const char *output, *domains, *proportions, *state, *history, *reference, *plugin;
	struct df_strlist losses, loads;
	int64_t step, total;
	int layers;
	bool list, json;
	struct df_prog_common common;
	const struct df_mixer *m, *foreign; /* the method; that of --plugin */
	void *options;                      /* of the method */
	struct df_opt_table table;
	struct df_buf synopsis, about;

	struct df_meta meta;     /* of the output */
	struct df_mix_file from; /* of --state */
	struct df_mix_measured measured;
	double *p0, *numbers, *result; /* initial proportions, state, what is written */
	size_t n_numbers;
	uint64_t n_updates;
};

/* ---- the option table -------------------------------------------------------------- */

/* The files that a method reads. */
static int
add_inputs(struct run *r, const struct df_mixer *m, struct df_err *err)
{
	/* clang-format off */
	const struct df_opt losses[] = {
		{ .name = "losses", .type = DF_OPT_LIST, .value = &r->losses, .arg = "FILE", .file = DF_FILE_READ,
		    .help = "losses of the trained model, by domain; may be repeated" },
		{ .name = "history", .type = DF_OPT_STR, .value = &r->history, .arg = "FILE", .file = DF_FILE_READ,
		    .help = "mixture_log.jsonl of df-train: learn from its lines" },
	}, reference = { .name = "reference", .type = DF_OPT_STR, .value = &r->reference, .arg = "FILE",
		.file = DF_FILE_READ, .help = "the reference model's losses of the same targets" },
	loads[] = {
		{ .name = "loads", .type = DF_OPT_LIST, .value = &r->loads, .arg = "FILE", .file = DF_FILE_READ,
		    .help = "loads of experts on held-out rows; may be repeated" },
		{ .name = "layers", .type = DF_OPT_CHOICE, .value = &r->layers, .choices = layers,
		    .help = "whose loads: of the last layer, or all of them" },
	};
	/* clang-format on */
	int rc = DF_OK;

	if (m->needs & DF_MIX_NEEDS_LOSSES)
		DF_TRY(df_opt_table_add(&r->table, losses, 2, err));
	if (m->needs & DF_MIX_NEEDS_REFERENCE)
		DF_TRY(df_opt_table_add(&r->table, &reference, 1, err));
	if (m->needs & DF_MIX_NEEDS_LOADS)
		DF_TRY(df_opt_table_add(&r->table, loads, 2, err));
out:
	return rc;
}

/* The rows of a method: its files and its own options, whose values lie in `options`. */
static int
add_method(struct run *r, const struct df_mixer *m, void *options, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(add_inputs(r, m, err));
	for (const struct df_opt *o = m->options; o && o->name; o++) {
		const struct df_opt row[] = { *o, DF_OPT_END };

		if (!(o->only & DF_MIX_RUNS_ONLY))
			DF_TRY(df_opt_table_bind(&r->table, row, options, err));
	}
out:
	return rc;
}

/* The names of other methods' options, for the error. */
static int
add_elsewhere(struct run *r, struct df_err *err)
{
	int rc = DF_OK;

	for (size_t i = 0; df_mixers[i]; i++) {
		const size_t first = r->table.n;

		if (df_mixers[i] == r->m)
			continue;
		DF_TRY(add_method(r, df_mixers[i], NULL, err));
		for (size_t j = first; j < r->table.n; j++)
			r->table.v[j] = (struct df_opt){
				.name = r->table.v[j].name, .type = DF_OPT_ELSEWHERE, .help = df_mixers[i]->name
			};
	}
out:
	return rc;
}

static int
make_table(struct run *r, struct df_err *err)
{
	/* clang-format off */
	const struct df_opt first[] = {
		{ .type = DF_OPT_GROUP, .help = "The mixture" },
		{ .name = "list", .type = DF_OPT_FLAG, .value = &r->list, .help = "print the methods and exit" },
		{ .name = "plugin", .type = DF_OPT_STR, .value = &r->plugin, .arg = "FILE", .file = DF_FILE_READ,
		    .help = "before METHOD: a shared library with a method of yours" },
		{ .name = "domains", .type = DF_OPT_STR, .value = &r->domains, .arg = "NAMES",
		    .help = "the domains, in order; default: those of the files" },
		{ .name = "proportions", .type = DF_OPT_STR, .value = &r->proportions, .arg = "PROP",
		    .file = DF_FILE_READ_ANY, .help = "initial ones, or DoReMi's reference's; default: all equal" },
		{ .name = "state", .type = DF_OPT_STR, .value = &r->state, .arg = "FILE", .file = DF_FILE_READ,
		    .help = "go on from this output of the same method" },
		{ .name = "step", .type = DF_OPT_INT, .value = &r->step, .arg = "N", .max = 9e15,
		    .help = "steps done; default: one more than in --state" },
		{ .name = "total-steps", .type = DF_OPT_INT, .value = &r->total, .arg = "N", .max = 9e15,
		    .help = "steps of the run, where a method wants to know (0: unknown)" },
	}, own = { .type = DF_OPT_GROUP, .help = r->m ? r->m->name : NULL }, last[] = {
		{ .type = DF_OPT_GROUP, .help = "Output" },
		DF_PROG_OUTPUT(&r->output, 0, "the proportions, with the method's state"),
		{ .name = "json", .type = DF_OPT_FLAG, .value = &r->json, .help = "print them, and what they are from" },
		{ .type = DF_OPT_OPERANDS, .arg = r->m ? "" : "METHOD" },
		DF_PROG_OPTS(&r->common),
	}, end = DF_OPT_END;
	/* clang-format on */
	int rc = DF_OK;

	r->table.n = 0;
	DF_TRY(df_opt_table_add(&r->table, first, sizeof(first) / sizeof(first[0]), err));
	if (r->m) {
		DF_TRY(df_opt_defaults(&r->options, r->m->defaults, r->m->defaults_size, err));
		DF_TRY(df_opt_table_add(&r->table, &own, 1, err));
		DF_TRY(add_method(r, r->m, r->options, err));
	}
	DF_TRY(df_opt_table_add(&r->table, last, sizeof(last) / sizeof(last[0]), err));
	DF_TRY(add_elsewhere(r, err));
	DF_TRY(df_opt_table_add(&r->table, &end, 1, err));
out:
	return rc;
}

static void
describe(struct run *r)
{
	const unsigned needs = r->m ? r->m->needs : 0;

	df_buf_printf(&r->synopsis, "%s [options]", r->m ? r->m->name : "METHOD");
	if (needs & DF_MIX_NEEDS_LOSSES)
		df_buf_puts(&r->synopsis, " --losses FILE");
	if (needs & DF_MIX_NEEDS_REFERENCE)
		df_buf_puts(&r->synopsis, " --reference FILE");
	if (needs & DF_MIX_NEEDS_LOADS)
		df_buf_puts(&r->synopsis, " --loads FILE");
	df_buf_puts(&r->synopsis, " -o WEIGHTS");
	if (r->m) {
		df_buf_printf(&r->about, "Proportions of domains: %s.", r->m->about);
		return;
	}
	df_buf_puts(&r->about, "Say how much of each domain to train on next.  Methods:");
	for (size_t i = 0; df_mixers[i]; i++)
		df_buf_printf(&r->about, "%s %s", i ? "," : "", df_mixers[i]->name);
	df_buf_puts(&r->about, "; df-mix METHOD -h lists the options of one.");
}

/* --plugin comes before METHOD, so that its method can be found. */
static int
load_plugin(struct run *r, int argc, char **argv, int at, struct df_err *err)
{
	const char *path = df_opt_peek(r->table.v, at, argv, "plugin");
	int rc;

	if (!path)
		return DF_OK;
	DF_TRY(df_inout_read(path, "--plugin", err));
	DF_TRY(df_mix_plugin_load(&r->foreign, path, err));
	if (at < argc && strcmp(argv[at], r->foreign->name) != 0)
		rc =
		    df_fail(err, DF_EUSAGE, "--plugin: '%s' is no method of it, it has %s", argv[at], r->foreign->name);
out:
	return rc;
}

static int
find_method(struct run *r, const char *name, struct df_err *err)
{
	r->m = r->foreign;
	return r->foreign ? DF_OK : df_mixer_find(&r->m, name, err);
}

/* Find the method and take it out of argv, so that its table is the one that the rest is parsed by. */
static int
parse(struct run *r, int argc, char **argv, struct df_err *err)
{
	const struct df_opt_result *args;
	int at, rc, found = DF_OK;

	DF_TRY(make_table(r, err));
	at = df_opt_first_operand(r->table.v, argc, argv);
	/* A wrong command line is told before a plug-in that cannot be loaded: what is before its method is parsed. */
	found = load_plugin(r, argc, argv, at, err);
	if (found == DF_OK && at < argc && (found = find_method(r, argv[at], err)) == DF_OK) {
		memmove(argv + at, argv + at + 1, (size_t)(argc - at) * sizeof(*argv));
		argc--;
		DF_TRY(make_table(r, err));
	} else if (at < argc) {
		argc = at; /* what follows a word that is no method cannot be judged */
	}
	describe(r);
	DF_TRY(df_buf_check(&r->synopsis, err));
	DF_TRY(df_buf_check(&r->about, err));
	args = df_prog_parse(r->table.v, r->synopsis.data, r->about.data, &r->common, argc, argv);
	rc = found;
	if (rc == DF_OK && args->operands.n > 0)
		rc = df_fail(err, DF_EUSAGE, "'%s': files are named by options", args->operands.v[0]);
out:
	return rc;
}

/* ---- the methods ------------------------------------------------------------------- */

static int
print_methods(struct df_err *err)
{
	struct df_buf list = DF_BUF_INIT;

	df_buf_printf(&list, ROW, "method", "reads", "learns", "gives");
	for (size_t i = 0; df_mixers[i]; i++) {
		const struct df_mixer *m = df_mixers[i];

		df_buf_printf(&list, ROW, m->name,
		    m->needs & DF_MIX_NEEDS_REFERENCE    ? "losses of two models"
			: m->needs & DF_MIX_NEEDS_LOSSES ? "losses"
			: m->needs & DF_MIX_NEEDS_LOADS  ? "loads of experts"
							 : "-",
		    !m->update         ? "never"
			: m->each_step ? "each step"
				       : "at events",
		    m->about);
	}
	return df_prog_print(&list, err);
}

/* ---- domains and initial proportions ------------------------------------------------ */

/* "wiki,c4" */
static int
split_domains(struct df_meta *meta, const char *text, struct df_err *err)
{
	int rc = DF_OK;

	for (const char *s = text;; s++) {
		const size_t n = strcspn(s, ",");
		char *name = NULL;

		if (n == 0)
			return df_fail(err, DF_EUSAGE, "--domains '%s': a name is empty", text);
		DF_TRY(df_strndup(&name, s, n, err));
		rc = df_meta_add_domain(meta, name, NULL, err);
		free(name);
		DF_TRY(rc);
		s += n;
		if (!*s)
			break;
	}
	if ((rc = df_mix_join(meta->domains, meta->n_domains, NULL, 0, NULL, err)) != DF_OK)
		df_err_prefix(err, "--domains: ");
out:
	return rc == DF_EFORMAT ? DF_EUSAGE : rc;
}

/* The domains that a file of weights has, in its order, unless they are known: then they must be the same. */
static int
domains_of(struct df_meta *meta, const struct df_meta *of, const char *path, struct df_err *err)
{
	int rc = DF_OK;

	if (meta->n_domains == 0)
		for (size_t i = 0; i < of->n_domains; i++)
			DF_TRY(df_meta_add_domain(meta, of->domains[i], NULL, err));
	if (meta->n_domains != of->n_domains)
		return df_fail(err, DF_ELINEAGE, "%s: %zu domains, not %zu", path, of->n_domains, meta->n_domains);
	for (size_t i = 0; i < of->n_domains; i++)
		if (strcmp(meta->domains[i], of->domains[i]) != 0)
			return df_fail(err, DF_ELINEAGE, "%s: domain %zu is '%s', not '%s'", path, i, of->domains[i],
			    meta->domains[i]);
out:
	return rc;
}

static bool
is_list_of_numbers(const char *text)
{
	return text[strspn(text, "0123456789.eE+-, \t")] == '\0';
}

static int
read_proportions(struct run *r, struct df_err *err)
{
	const size_t k = r->meta.n_domains;
	int rc = DF_OK;

	DF_TRY(df_alloc(&r->p0, k, sizeof(*r->p0), "proportions", err));
	if (!r->proportions || is_list_of_numbers(r->proportions))
		return df_mix_proportions(r->proportions, "--proportions", k, r->meta.domains, r->p0, err);
	rc = df_mix_read_weights(r->proportions, r->meta.domains, k, r->p0, err);
out:
	return rc;
}

/* The file of --proportions: its domains are ours if nobody else says which there are. */
static int
note_proportions(struct run *r, struct df_err *err)
{
	struct df_mix_file f = { .meta = DF_META_INIT };
	int rc = DF_OK;

	if (!r->proportions || is_list_of_numbers(r->proportions))
		return DF_OK;
	DF_TRY(df_mix_file_read(&f, r->proportions, err));
	if (r->meta.n_domains == 0)
		DF_TRY(domains_of(&r->meta, &f.meta, r->proportions, err));
	if (f.meta.id[0])
		DF_TRY(df_meta_add_input(&r->meta, "proportions", "weights", f.meta.id, err));
out:
	df_mix_file_release(&f);
	return rc;
}

/* ---- options, in words ---------------------------------------------------------------- */

static int
record_option(struct df_meta *meta, const struct df_opt *o, const void *value, struct df_err *err)
{
	switch (o->type) {
	case DF_OPT_FLAG: return df_meta_set_bool(meta, o->name, *(const bool *)value, err);
	case DF_OPT_INT: return df_meta_set_int(meta, o->name, *(const int64_t *)value, err);
	case DF_OPT_CHOICE: return df_meta_set_str(meta, o->name, o->choices[*(const int *)value], err);
	case DF_OPT_DOUBLE:
		return isnan(*(const double *)value) ? DF_OK
						     : df_meta_set_double(meta, o->name, *(const double *)value, err);
	default: return DF_OK;
	}
}

/* Parameters of the output; an option that is not that of --state is allowed, with a warning. */
static int
record(struct run *r, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(df_meta_set_tool(&r->meta, "df-mix", err));
	DF_TRY(df_meta_set_str(&r->meta, "method", r->m->name, err));
	DF_TRY(df_meta_set_int(&r->meta, "step", r->step, err));
	if (r->total > 0)
		DF_TRY(df_meta_set_int(&r->meta, "total_steps", r->total, err));
	if (r->loads.n > 0)
		DF_TRY(df_meta_set_str(&r->meta, "layers", layers[r->layers], err));
	for (const struct df_opt *o = r->m->options; o && o->name; o++) {
		const char *now, *before;

		if (o->only & DF_MIX_RUNS_ONLY)
			continue;
		DF_TRY(record_option(&r->meta, o, (const char *)r->options + (uintptr_t)o->value, err));
		now = df_meta_param(&r->meta, o->name);
		before = r->state ? df_meta_param(&r->from.meta, o->name) : NULL;
		if (now && before && strcmp(now, before) != 0)
			df_warn("--%s is %s; it was %s for %s", o->name, now, before, r->state);
	}
out:
	return rc;
}

/* ---- the state ------------------------------------------------------------------------- */

static int
read_state(struct run *r, struct df_err *err)
{
	char *method = NULL;
	double step = 0;
	int rc = DF_OK;

	if (!r->state)
		return DF_OK;
	DF_TRY(df_mix_file_read(&r->from, r->state, err));
	if (!df_meta_get_str(&r->from.meta, "method", &method) || strcmp(method, r->m->name) != 0) {
		rc = df_fail(err, DF_ELINEAGE, "%s: it is of %s, not of %s", r->state, method ? method : "no method",
		    r->m->name);
		goto out;
	}
	DF_TRY(domains_of(&r->meta, &r->from.meta, r->state, err));
	if (r->from.meta.id[0])
		DF_TRY(df_meta_add_input(&r->meta, "state", "weights", r->from.meta.id, err));
	if (r->step < 0 && df_meta_get_double(&r->from.meta, "step", &step))
		r->step = (int64_t)step + 1;
out:
	free(method);
	return rc;
}

static int
begin(struct run *r, struct df_err *err)
{
	const size_t k = r->meta.n_domains, width = k > 0 ? (r->m->n_state(k) + k - 1) / k : 0;
	int rc = DF_OK;

	if (r->m->check)
		DF_TRY(r->m->check(r->options, k, err));
	r->n_numbers = r->m->n_state(k);
	DF_TRY(df_alloc(&r->numbers, r->n_numbers, sizeof(*r->numbers), "state of the method", err));
	DF_TRY(df_alloc(&r->result, k, sizeof(*r->result), "proportions", err));
	DF_TRY(r->m->begin(r->options, r->p0, k, r->numbers, err));
	if (!r->state)
		goto out;
	if (r->from.n_state != width * k) {
		rc = df_fail(
		    err, DF_EFORMAT, "%s: its state has %zu numbers, not %zu", r->state, r->from.n_state, width * k);
		goto out;
	}
	if (r->n_numbers > 0)
		memcpy(r->numbers, r->from.state, r->n_numbers * sizeof(*r->numbers));
out:
	return rc;
}

/* ---- learning ---------------------------------------------------------------------------- */

static int
update(struct run *r, const struct df_mix_seen *seen, struct df_err *err)
{
	r->n_updates++;
	return r->m->update(r->options, r->numbers, seen, err);
}

/* A line of the log; lines that --state has seen are left out.  The first one says which domains there are. */
static int
learn_line(void *ctx, const struct df_mix_line *line, struct df_err *err)
{
	struct run *r = ctx;
	const struct df_mix_seen seen = { .n_domains = r->meta.n_domains,
		.sum = line->sum,
		.step = line->step,
		.total = (uint64_t)r->total,
		.names = r->meta.domains };
	double before = -1;
	int rc = DF_OK;

	if (!r->numbers) {
		DF_TRY(read_proportions(r, err));
		DF_TRY(begin(r, err));
	}
	if (r->state && df_meta_get_double(&r->from.meta, "step", &before) && (double)line->step <= before)
		return DF_OK;
	r->step = (int64_t)line->step;
	if (line->sum)
		rc = update(r, &seen, err);
out:
	return rc;
}

static int
learn_measured(struct run *r, struct df_err *err)
{
	const struct df_mix_seen seen = { .n_domains = r->meta.n_domains,
		.sum = r->measured.sum,
		.load = r->measured.load,
		.n_experts = r->measured.n_experts,
		.step = (uint64_t)r->step,
		.total = (uint64_t)r->total,
		.names = r->meta.domains };

	if (r->measured.n_skipped > 0)
		df_warn(
		    "%" PRIu64 " targets have no finite loss in both files, and are left out", r->measured.n_skipped);
	return seen.sum || seen.load ? update(r, &seen, err) : DF_OK;
}

/* What must be given together. */
static int
check_usage(const struct run *r, struct df_err *err)
{
	const unsigned needs = r->m->needs;

	if (!r->output && !r->json)
		return df_fail(err, DF_EUSAGE, "-o FILE is missing");
	if (r->history && r->losses.n > 0)
		return df_fail(err, DF_EUSAGE, "--history and --losses: learn from one after the other, with --state");
	if ((needs & DF_MIX_NEEDS_LOSSES) && r->losses.n == 0 && !r->history)
		return df_fail(err, DF_EUSAGE, "%s needs --losses FILE, or --history FILE", r->m->name);
	if ((needs & DF_MIX_NEEDS_REFERENCE) && r->losses.n > 0 && !r->reference)
		return df_fail(err, DF_EUSAGE, "%s needs --reference FILE: losses of a reference model", r->m->name);
	if (r->reference && r->losses.n == 0)
		return df_fail(err, DF_EUSAGE, "--reference goes with --losses: a log has the excess already");
	if ((needs & DF_MIX_NEEDS_LOADS) && r->loads.n == 0)
		return df_fail(err, DF_EUSAGE, "%s needs --loads FILE, of df-grad --gate-load", r->m->name);
	return DF_OK;
}

static int
mix(struct run *r, struct df_err *err)
{
	const struct df_mix_files files = { .losses = r->losses.v,
		.n_losses = r->losses.n,
		.loads = r->loads.v,
		.n_loads = r->loads.n,
		.reference = r->reference,
		.all_layers = r->layers == 1 };
	int rc = DF_OK;

	DF_TRY(check_usage(r, err));
	if (r->domains)
		DF_TRY(split_domains(&r->meta, r->domains, err));
	DF_TRY(read_state(r, err));
	if (r->step < 0)
		r->step = r->m->update ? 1 : 0;
	if (r->history)
		DF_TRY(df_mix_history(r->history, r->m->name, &r->meta, learn_line, r, err));
	else
		DF_TRY(df_mix_measure(&files, &r->meta, &r->measured, err));
	DF_TRY(note_proportions(r, err));
	if (r->meta.n_domains == 0) {
		rc = df_fail(err, DF_EUSAGE, "which domains?  --domains NAME,NAME");
		goto out;
	}
	if (!r->numbers) {
		DF_TRY(read_proportions(r, err));
		DF_TRY(begin(r, err));
	}
	DF_TRY(learn_measured(r, err));
	if (r->m->update && r->n_updates == 0)
		df_warn("nothing was learnt: the files have no losses of later steps");
	if (r->m->result)
		r->m->result(r->options, r->numbers, r->meta.n_domains, r->result);
	else
		r->m->propose(r->options, r->numbers, r->meta.n_domains, (uint64_t)r->step, r->result);
	DF_TRY(df_mix_check(r->m, r->result, r->meta.n_domains, r->meta.domains, err));
	rc = record(r, err);
out:
	return rc;
}

/* ---- telling ------------------------------------------------------------------------------- */

/* A line as those of df-train's mixture_log.jsonl. */
static int
print_line(struct run *r, struct df_err *err)
{
	struct df_mix_report line = {
		.step = (uint64_t)r->step,
		.method = r->m->name,
		.mixer = r->m,
		.options = r->options,
		.state = r->numbers,
		.n_domains = r->meta.n_domains,
		.names = r->meta.domains,
		.p = r->result,
		.sum = r->measured.sum,
		.excess = r->m->weigh != NULL,
	};
	struct df_buf b = DF_BUF_INIT;
	int rc;

	DF_TRY(df_alloc(&line.weight, line.n_domains, sizeof(*line.weight), "weights", err));
	df_mix_put_line(&b, &line);
	rc = df_prog_print(&b, err);
out:
	df_buf_release(&b);
	free(line.weight);
	return rc;
}

/* Is another round of DoReMi needed, with the result as the reference's proportions? */
static void
tell_convergence(const struct run *r)
{
	double largest = 0;
	size_t at = 0;

	if (!r->m->result || !r->proportions)
		return;
	for (size_t i = 0; i < r->meta.n_domains; i++) {
		const double change = fabs(r->result[i] - r->p0[i]);

		at = change > largest ? i : at;
		largest = fmax(largest, change);
	}
	df_info("the largest change of a proportion is %.6f, of '%s': %s", largest, r->meta.domains[at],
	    largest < CONVERGED ? "no other round is needed"
				: "for another round, train the reference with these (until it is below 0.001)");
}

static void
tell(const struct run *r)
{
	struct df_buf b = DF_BUF_INIT;

	for (size_t i = 0; i < r->meta.n_domains && i < 8; i++)
		df_buf_printf(&b, "%s%s %.4f", i ? ", " : "", r->meta.domains[i], r->result[i]);
	if (b.data)
		df_info("%s%s", b.data, r->meta.n_domains > 8 ? ", .." : "");
	df_buf_release(&b);
	tell_convergence(r);
}

int
main(int argc, char **argv)
{
	static struct run r = {
		.step = -1, .common = DF_PROG_COMMON_DEFAULT, .meta = DF_META_INIT, .from = { .meta = DF_META_INIT }
	};
	struct df_err err = DF_ERR_INIT;
	int rc = DF_OK;

	df_prog_init("df-mix");
	DF_TRY(parse(&r, argc, argv, &err));
	if (r.list) {
		rc = print_methods(&err);
		goto out;
	}
	if (!r.m) {
		rc = df_fail(&err, DF_EUSAGE, "which method?  df-mix --list names them");
		goto out;
	}
	DF_TRY(mix(&r, &err));
	if (r.output)
		DF_TRY(
		    df_mix_file_write(r.output, &r.meta, r.result, r.n_numbers ? r.numbers : NULL, r.n_numbers, &err));
	tell(&r);
	if (r.json)
		rc = print_line(&r, &err);
out:
	free(r.table.v);
	free(r.options);
	free(r.losses.v);
	free(r.loads.v);
	free(r.p0);
	free(r.numbers);
	free(r.result);
	df_buf_release(&r.synopsis);
	df_buf_release(&r.about);
	df_mix_measured_release(&r.measured);
	df_mix_file_release(&r.from);
	df_meta_release(&r.meta);
	return df_prog_exit(rc, &err);
}
