/*
 * custom.c - a rule of the user's own: a file of scores, a file of indices, or a program that writes one.
 *
 * The program gets DF_STEP, DF_N (rows to choose) and DF_OUT (where to write the index: an
 * artefact, or text with an id per line) in its environment.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stop.h"
#include "select/select.h"

/* A copy of the environment with three more variables; *extra holds their strings. */
static int
make_env(char ***env, char *extra[3], const char *out, uint64_t n, uint32_t step, struct df_err *err)
{
	size_t count = 0;
	int rc = DF_OK;

	while (environ[count])
		count++;
	DF_TRY(df_asprintf(&extra[0], err, "DF_STEP=%" PRIu32, step));
	DF_TRY(df_asprintf(&extra[1], err, "DF_N=%" PRIu64, n));
	DF_TRY(df_asprintf(&extra[2], err, "DF_OUT=%s", out));
	DF_TRY(df_alloc(env, count + 4, sizeof(**env), "environment", err));
	memcpy(*env, extra, 3 * sizeof(**env));
	for (size_t i = 0, j = 3; i < count; i++)
		if (strncmp(environ[i], "DF_STEP=", 8) != 0 && strncmp(environ[i], "DF_N=", 5) != 0 &&
		    strncmp(environ[i], "DF_OUT=", 7) != 0)
			(*env)[j++] = environ[i];
out:
	return rc;
}

/* Start `command` under /bin/sh with SIGPIPE as programs expect it: a tool ignores it, and that would be inherited. */
static int
start(pid_t *pid, const char *command, char **env)
{
	char *argv[] = { (char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c", (char *)(uintptr_t)command, NULL };
	posix_spawnattr_t attr;
	sigset_t defaults;
	int e = posix_spawnattr_init(&attr);

	if (e)
		return e;
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	e = posix_spawnattr_setsigdefault(&attr, &defaults);
	if (!e)
		e = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF);
	if (!e)
		e = posix_spawn(pid, "/bin/sh", NULL, &attr, argv, env);
	posix_spawnattr_destroy(&attr);
	return e;
}

/* Wait for the program.  A signal that asks us to stop is handed on once, and then it may end in its own way. */
static int
wait_for(pid_t pid, const char *command, int *status, struct df_err *err)
{
	const struct timespec tick = { 0, 20000000 };
	bool told = false;
	pid_t got;

	while ((got = waitpid(pid, status, WNOHANG)) == 0) {
		if (df_stop_requested() && !told) {
			kill(pid, SIGTERM);
			told = true;
		}
		nanosleep(&tick, NULL);
	}
	if (got < 0)
		return df_fail(err, DF_EIO, "waiting for '%s':", command);
	return DF_OK;
}

static int
run_program(const char *command, const char *out, uint64_t n, uint32_t step, struct df_err *err)
{
	char **env = NULL, *extra[3] = { NULL };
	int rc = DF_OK, status = 0, e;
	bool there;
	pid_t pid;

	DF_TRY(make_env(&env, extra, out, n, step, err));
	e = start(&pid, command, env);
	if (e) {
		errno = e;
		rc = df_fail(err, DF_ENOINPUT, "/bin/sh:");
		goto out;
	}
	DF_TRY(wait_for(pid, command, &status, err));
	if (df_stop_requested())
		rc = df_fail(err, DF_ESTOPPED, "stopped by a signal while '%s' ran", command);
	else if (WIFSIGNALED(status))
		rc = df_fail(err, DF_EFORMAT, "the program '%s' was ended by signal %d", command, WTERMSIG(status));
	else if (WEXITSTATUS(status))
		rc = df_fail(err, DF_EFORMAT, "the program '%s' failed with status %d", command, WEXITSTATUS(status));
	else if ((rc = df_file_probe(out, &there, err)) == DF_OK && !there)
		rc = df_fail(err, DF_EFORMAT, "the program '%s' wrote no index to $DF_OUT", command);
out:
	for (int i = 0; i < 3; i++)
		free(extra[i]);
	free(env);
	return rc;
}

struct options {
	const char *scores, *index, *program;
};

/* *index = what the program chose, through a scratch directory. */
static int
from_program(const struct df_select *in, const char *program, struct df_selection *out, uint64_t **index, uint64_t *n,
    uint64_t *repeated, struct df_err *err)
{
	const char *tmp = getenv("TMPDIR");
	char *dir = NULL, *path = NULL;
	bool made = false;
	struct df_err ignored = DF_ERR_INIT;
	int rc = DF_OK;

	DF_TRY(df_asprintf(&dir, err, "%s/df-score.XXXXXX", tmp && *tmp ? tmp : "/tmp"));
	if (!mkdtemp(dir)) {
		rc = df_fail(err, DF_ECREATE, "%s:", dir);
		goto out;
	}
	made = true;
	DF_TRY(df_path_join(&path, dir, "index.h5", err));
	DF_TRY(run_program(program, path, df_amount_of(&in->amount, out->n_rows), in->step, err));
	rc = df_select_read_index(
	    path, out->n_rows, df_select_tokens_id(&out->meta), index, n, repeated, &out->meta, err);
	if (rc != DF_OK)
		df_err_prefix(err, "the index of '%s': ", program);
out:
	if (made && df_rmtree(dir, &ignored))
		df_warn("%s", ignored.msg);
	free(dir);
	free(path);
	return rc;
}

static int
check(const struct df_select *in, const void *options, struct df_err *err)
{
	const struct options *o = options;

	if (o->program && in->amount.tokens)
		return df_fail(err, DF_EUSAGE, "-n %s: a program chooses a number of rows", in->amount.text);
	if (!!o->scores + !!o->index + !!o->program != 1)
		return df_fail(err, DF_EUSAGE, "custom needs one of --scores FILE, --index FILE and --program COMMAND");
	return DF_OK;
}

static int
run(const struct df_select *in, const void *options, struct df_selection *out, struct df_err *err)
{
	const char *tokens = df_select_tokens_id(&out->meta);
	const struct options *o = options;
	uint64_t *order = NULL, n = 0, repeated = 0;
	int rc = DF_OK;

	if (o->scores) {
		DF_TRY(df_select_read_scores(o->scores, out->n_rows, tokens, &out->score, &out->meta, err));
		DF_TRY(df_select_top(in, out, err));
		goto out;
	}
	DF_TRY(df_meta_set_int(&out->meta, "step", in->step, err));
	if (o->index) {
		DF_TRY(df_select_read_index(o->index, out->n_rows, tokens, &order, &n, &repeated, &out->meta, err));
	} else {
		DF_TRY(df_meta_set_str(&out->meta, "program", o->program, err));
		DF_TRY(from_program(in, o->program, out, &order, &n, &repeated, err));
	}
	if (repeated) {
		df_warn("%s: %" PRIu64 " of %" PRIu64 " ids occur more than once", o->index ? o->index : o->program,
		    repeated, n);
	}
	DF_TRY(df_select_take(in, order, n, out, err));
out:
	free(order);
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "scores", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, scores), .arg = "FILE", .file = DF_FILE_READ,
	    .help = "rank by these: scores or losses, or text" },
	{ .name = "index", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, index), .arg = "FILE", .file = DF_FILE_READ,
	    .help = "take these ids: an index, or text with one per line" },
	{ .name = "program", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, program), .arg = "COMMAND",
	    .help = "run it with DF_STEP, DF_N, DF_OUT; writes an index" },
	DF_OPT_END };
/* clang-format on */

static const struct df_select_input inputs[] = {
	{ .role = "train", .name = "train set", .help = "rows to choose from, in any file with one per sample" },
};

const struct df_selector df_select_custom = {
	.name = "custom",
	.about = "by scores, an index or a program of yours",
	.model = "-",
	.cost = "-",
	.shortage = DF_SHORT_ERROR,
	.inputs = inputs,
	.n_inputs = 1,
	.defaults = &(const struct options){ 0 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.check = check,
	.run = run,
};
