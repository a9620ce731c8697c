/*
 * slurm.c - a plan as one script that submits a job, or an array of jobs, for each node.
 *
 * The script is to be read: its head has the settings and one function, and a stage is a line that says what it waits
 * for and what it makes, over the commands that its job runs.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/path.h"
#include "plan/edges.h"
#include "plan/print.h"
#include "plan/shell.h"

static const char settings[] =
    "JOB=${JOB-}             # options of sbatch for every job: --partition=short --account=me --time=30\n"
    "MODEL_JOB=${MODEL_JOB-} # more options for jobs that run the model: --cpus-per-task=16 --time=4:00:00\n"
    "\n"
    "mkdir -p \"$OUT/log\" \"$OUT/.plan\"\n";

static const char functions[] =
    "# How a job begins.  Two minutes before its time is over, Slurm sends SIGTERM to its command, which saves its work\n"
    "# and exits with 75.  The job then goes into the queue again, and the same command continues where it stopped.\n"
    "head='#!/bin/sh\n"
    "#SBATCH --requeue\n"
    "#SBATCH --open-mode=append\n"
    "#SBATCH --signal=TERM@120\n"
    "set -e\n"
    "again() {\n"
    "\tstatus=$?\n"
    "\t[ $status -ne 75 ] || scontrol requeue \"$SLURM_JOB_ID\"\n"
    "\texit $status\n"
    "}\n"
    "trap again EXIT\n"
    "if [ -n \"${SLURM_CPUS_PER_TASK-}\" ]; then\n"
    "\texport DF_THREADS=\"$SLURM_CPUS_PER_TASK\" SRUN_CPUS_PER_TASK=\"$SLURM_CPUS_PER_TASK\"\n"
    "fi'\n"
    "\n"
    "# stage NAME.KEY [goes-on] [with OPTION...] [after STAGE...] [array N] makes FILE...: submit the commands on standard\n"
    "# input as a job, for when the jobs of the other STAGEs have succeeded; if one of them fails, it is cancelled.  Of an array,\n"
    "# each task makes one of N parts of FILE.  There is no job for what is done: the FILEs are there, no STAGE is under\n"
    "# way, and KEY, which stands for the command and its settings, is the same as then.\n"
    "stage() {\n"
    "\tname=${1%.*} key=$OUT/.plan/$1 options=$JOB after='' n='' missing='' word=''\n"
    "\tshift\n"
    "\tif ! [ -e \"$key\" ]; then\n"
    "\t\tif [ \"$1\" = goes-on ] && ls \"$OUT/.plan/$name\".* >/dev/null 2>&1; then\n"
    "\t\t\techo \"$OUT has a run with other settings: remove it, or give another output_dir\" >&2\n"
    "\t\t\texit 1\n"
    "\t\tfi\n"
    "\t\trm -f \"$OUT/.plan/$name\".*\n"
    "\t\ttouch \"$key\"\n"
    "\tfi\n"
    "\tfor arg; do\n"
    "\t\tcase $word:$arg in\n"
    "\t\t*:with | *:after | *:array | *:makes) word=$arg ;;\n"
    "\t\t*:goes-on) ;;\n"
    "\t\twith:*) options=\"$options $arg\" ;;\n"
    "\t\tafter:*)\n"
    "\t\t\teval \"id=\\${job_$(echo \"$arg\" | tr - _)-}\"\n"
    "\t\t\tafter=$after${id:+:$id}\n"
    "\t\t\t;;\n"
    "\t\tarray:*) n=$arg ;;\n"
    "\t\tmakes:*)\n"
    "\t\t\tfor i in $(seq \"${n:-1}\"); do\n"
    "\t\t\t\tfile=$arg\n"
    "\t\t\t\t[ -z \"$n\" ] || file=$(printf '%s.%05d-of-%05d.h5' \"${arg%.h5}\" \"$i\" \"$n\")\n"
    "\t\t\t\t{ [ -z \"$after\" ] && [ \"$file\" -nt \"$key\" ]; } || missing=$missing${missing:+,}$i\n"
    "\t\t\tdone\n"
    "\t\t\t;;\n"
    "\t\tesac\n"
    "\tdone\n"
    "\t[ -n \"$missing\" ] || return 0\n"
    "\tlog=$name-%j\n"
    "\t[ -z \"$n\" ] || { log=$name-%A-%a options=\"$options --array=$missing\"; }\n"
    "\tid=$({ echo \"$head\"; cat; } | sbatch --parsable --job-name=\"$name\" --output=\"$OUT/log/$log.txt\" \\\n"
    "\t\t${after:+--dependency=afterok$after} --kill-on-invalid-dep=yes $options)\n"
    "\tid=${id%%;*} # after it: the name of the cluster\n"
    "\teval \"job_$(echo \"$name\" | tr - _)=$id\"\n"
    "\techo \"$name: job $id\" >&2\n"
    "}\n";

static void
print_head(const struct df_plan *p, struct df_buf *out)
{
	df_buf_puts(out, "#!/bin/sh\n");
	df_buf_printf(out, "# The stages of %s as jobs of a Slurm cluster (df-plan --slurm).\n", p->source);
	df_buf_puts(out,
	    "#\n"
	    "# This script submits its jobs and ends.  Run it where sbatch is, in a directory that all nodes "
	    "see.  When jobs\n"
	    "# have failed and the others have ended, run it again: only what is missing is submitted.  What "
	    "the jobs say\n"
	    "# goes to OUT/log.\n");
	df_buf_puts(
	    out, "# shellcheck disable=SC2016,SC2086,SC3013 # of the jobs; options are words; shells have -nt\n");
	for (size_t i = 0; i < p->notes.n; i++) {
		if (i == 0)
			df_buf_puts(out, "#\n");
		df_print_comment(out, "#", p->notes.v[i]);
	}
	df_buf_puts(out, "set -eu\n\nOUT=");
	df_print_sh(out, p->out);
	df_buf_putc(out, '\n');
	df_buf_puts(out, settings);
	df_buf_putc(out, '\n');
	df_buf_puts(out, functions);
}

/*
 * Append the artefact of which the node makes parts: "x.h5" of x.00001-of-00004.h5 and so on.  DF_EINTERNAL: its files
 * are not called so.
 */
static int
print_artefact(const struct df_plan_node *node, struct df_buf *out, struct df_err *err)
{
	struct df_buf base = DF_BUF_INIT, part = DF_BUF_INIT;
	const char *first = node->out.n == node->shards ? node->out.v[0] : "";
	const size_t tail = strlen(".00001-of-00001.h5"), n = strlen(first);
	int rc = DF_OK;

	if (n > tail)
		df_buf_add(&base, first, n - tail);
	for (size_t i = 0; i < node->shards && rc == DF_OK; i++) {
		df_buf_clear(&part);
		df_buf_printf(&part, "%s.%05zu-of-%05zu.h5", base.len > 0 ? base.data : "", i + 1, node->shards);
		DF_TRY(df_buf_check(&part, err));
		if (base.len == 0 || strcmp(part.data, node->out.v[i]) != 0)
			rc = df_fail(err, DF_EINTERNAL, "%s: its files are not the parts of one", node->name);
	}
	df_buf_puts(&base, ".h5");
	DF_TRY(df_buf_check(&base, err));
	df_print_sh(out, base.data);
out:
	df_buf_release(&base);
	df_buf_release(&part);
	return rc;
}

/* A line that ends the commands and is none of them. */
static const char *
end_line(const struct df_buf *commands, char end[32])
{
	char line[40];

	snprintf(end, 32, "END");
	for (unsigned i = 2;; i++) {
		snprintf(line, sizeof(line), "\n%s\n", end);
		if (strstr(commands->data, line) == NULL)
			return end;
		snprintf(end, 32, "END%u", i);
	}
}

static void
print_files(const struct df_plan_node *node, struct df_buf *out)
{
	for (size_t k = 0; k < node->out.n; k++) {
		df_buf_putc(out, ' ');
		df_print_sh(out, node->out.v[k]);
	}
}

/* The directories of its files, but for the plan's own, which is there, and those that the command makes. */
static void
print_mkdir(const struct df_plan *p, const struct df_plan_node *node, struct df_buf *out)
{
	struct df_buf dir = DF_BUF_INIT, last = DF_BUF_INIT;

	df_buf_puts(&last, p->out);
	for (size_t k = 0; k < node->out.n && !node->whole; k++) {
		const char *file = node->out.v[k], *slash = strrchr(file, '/');

		df_buf_clear(&dir);
		df_buf_add(&dir, file, slash != NULL ? (size_t)(slash - file) : 0);
		if (slash == NULL || dir.failed || last.failed || strcmp(dir.data, last.data) == 0)
			continue;
		df_buf_puts(out, "mkdir -p ");
		df_print_sh(out, dir.data);
		df_buf_putc(out, '\n');
		df_buf_clear(&last);
		df_buf_puts(&last, dir.data);
	}
	out->failed = out->failed || dir.failed || last.failed;
	df_buf_release(&dir);
	df_buf_release(&last);
}

/* What the node's job runs: output that is kept appears complete. */
static int
print_commands(const struct df_plan *p, const struct df_plan_node *node, struct df_buf *out, struct df_err *err)
{
	char shard[48];

	snprintf(shard, sizeof(shard), "auto/%zu", node->shards);
	print_mkdir(p, node, out);
	df_buf_puts(out, "srun ");
	df_print_command(out, node, shard, "    ");
	if (node->capture) {
		df_buf_puts(out, " >");
		df_print_sh(out, node->out.v[0]);
		df_buf_puts(out, ".tmp\nmv ");
		df_print_sh(out, node->out.v[0]);
		df_buf_puts(out, ".tmp ");
		df_print_sh(out, node->out.v[0]);
	} else if (node->shards == 0) {
		df_buf_puts(out, "\ntouch");
		print_files(node, out); /* what was done before is new again */
	}
	df_buf_putc(out, '\n');
	return df_buf_check(out, err);
}

static int
print_stage(const struct df_plan *p, const struct df_plan_edges *e, size_t i, struct df_buf *out, struct df_err *err)
{
	const struct df_plan_node *node = &p->node[i];
	struct df_buf commands = DF_BUF_INIT;
	char end[32];
	int rc = DF_OK;

	DF_TRY(print_commands(p, node, &commands, err));
	df_buf_putc(out, '\n');
	df_print_comment(out, "#", node->about);
	df_buf_printf(out, "stage %s.%016" PRIx64, node->name, node->key);
	if (df_plan_goes_on(node))
		df_buf_puts(out, " goes-on");
	if (df_plan_runs_model(node))
		df_buf_puts(out, " with $MODEL_JOB");
	for (size_t k = e->first[i]; k < e->first[i + 1]; k++)
		df_buf_printf(out, "%s %s", k == e->first[i] ? " after" : "", p->node[e->from[k]].name);
	if (node->shards > 0) {
		df_buf_printf(out, " array %zu makes ", node->shards);
		DF_TRY(print_artefact(node, out, err));
	} else {
		df_buf_puts(out, " makes");
		print_files(node, out);
	}
	end_line(&commands, end);
	df_buf_printf(out, " <<'%s'\n", end);
	df_buf_add(out, commands.data, commands.len);
	df_buf_printf(out, "%s\n", end);
out:
	df_buf_release(&commands);
	return rc;
}

static int
print(const struct df_plan *p, struct df_buf *out, struct df_err *err)
{
	struct df_plan_edges e = { 0 };
	int rc = DF_OK;

	DF_TRY(df_plan_edges_find(&e, p, err));
	print_head(p, out);
	for (size_t i = 0; i < p->n; i++)
		DF_TRY(print_stage(p, &e, i, out, err));
	rc = df_buf_check(out, err);
out:
	df_plan_edges_release(&e);
	return rc;
}

const struct df_printer df_print_slurm = { "slurm", "a script that submits a job for each stage", print };
