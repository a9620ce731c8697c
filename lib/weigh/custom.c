/*
 * custom.c - weights of the user's own: a file with one for each sample (--weights), or a program that is asked.  The
 * loss is the mean of w_i l_i over the group.  A third way, a shared library, is plugin.h's.
 *
 * The program runs under /bin/sh as long as the run.  For each group it reads a line of JSON from its standard input,
 *
 *     {"step":12,"id":[7,4],"domain":[0,0],"n_targets":[31,9],"loss":[2.25,1.5]}
 *
 * where `step` counts the steps that are done, and answers with a line that has a weight for each sample: [1,0.5].  So
 * that a run can be resumed, what it says should depend on that line alone.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/stop.h"
#include "weigh/weigh.h"

#define LAST_SECONDS 5 /* that the program has to end by itself, once it is asked no more */

struct options {
	const char *program;
};

/* ---- the program ----------------------------------------------------------------------------------------------- */

struct program {
	const char *command; /* borrowed */
	pid_t pid;
	int to, from;
	struct df_buf out, in;
};

/* Its standard input and output are the pipes; signals for this process's group are not for it. */
static int
spawn(struct program *p, const int in[2], const int out[2])
{
	char *argv[] = { (char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c", (char *)(uintptr_t)p->command, NULL };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t defaults;
	int e;

	if ((e = posix_spawnattr_init(&attr)) != 0)
		return e;
	if ((e = posix_spawn_file_actions_init(&files)) != 0) {
		posix_spawnattr_destroy(&attr);
		return e;
	}
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);
	if ((e = posix_spawnattr_setsigdefault(&attr, &defaults)) == 0 &&
	    (e = posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP)) == 0 &&
	    (e = posix_spawn_file_actions_adddup2(&files, in[0], STDIN_FILENO)) == 0 &&
	    (e = posix_spawn_file_actions_adddup2(&files, out[1], STDOUT_FILENO)) == 0)
		e = posix_spawn(&p->pid, "/bin/sh", &files, &attr, argv, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	return e;
}

static void
close_pipe(int fd[2])
{
	for (int i = 0; i < 2; i++) {
		if (fd[i] >= 0)
			close(fd[i]);
		fd[i] = -1;
	}
}

/* It is asked no more: its input ends.  A program that does not end then is ended. */
static void
stop(void *state)
{
	const struct timespec tick = { 0, 10000000 };
	struct program *p = state;
	pid_t got = 0;

	if (!p)
		return;
	if (p->to >= 0)
		close(p->to);
	for (int i = 0; p->pid > 0 && i < LAST_SECONDS * 100 && (got = waitpid(p->pid, NULL, WNOHANG)) == 0; i++)
		nanosleep(&tick, NULL);
	if (p->pid > 0 && got == 0) {
		df_warn("the program '%s' did not end with its input: it is ended now", p->command);
		kill(-p->pid, SIGKILL);
		waitpid(p->pid, NULL, 0);
	}
	if (p->from >= 0)
		close(p->from);
	df_buf_release(&p->out);
	df_buf_release(&p->in);
	free(p);
}

static int
start(const void *options, void **state, struct df_err *err)
{
	const struct options *o = options;
	int in[2] = { -1, -1 }, out[2] = { -1, -1 }, e, rc = DF_OK;
	struct program *p = NULL;

	if (!o->program)
		return DF_OK;
	DF_TRY(df_alloc(&p, 1, sizeof(*p), "a program", err));
	*p = (struct program){ .command = o->program, .to = -1, .from = -1 };
	if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) {
		rc = df_fail(err, DF_EIO, "a pipe to '%s':", o->program);
		goto out;
	}
	if ((e = spawn(p, in, out)) != 0) {
		errno = e;
		rc = df_fail(err, DF_ENOINPUT, "/bin/sh:");
		goto out;
	}
	p->to = in[1];
	p->from = out[0];
	in[1] = out[0] = -1;
	*state = p;
	p = NULL;
out:
	close_pipe(in);
	close_pipe(out);
	stop(p);
	return rc;
}

/* The program is gone, or it has closed its output. */
static int
gone(struct program *p, struct df_err *err)
{
	int status = 0;

	if (df_stop_requested())
		return df_fail(err, DF_ESTOPPED, "stopped by a signal while '%s' ran", p->command);
	close(p->to);
	p->to = -1;
	if (waitpid(p->pid, &status, 0) != p->pid)
		status = 0;
	p->pid = 0;
	if (WIFSIGNALED(status))
		return df_fail(
		    err, DF_EFORMAT, "the program '%s' was ended by signal %d", p->command, WTERMSIG(status));
	return df_fail(err, DF_EFORMAT, "the program '%s' ended, with status %d, before it had answered", p->command,
	    WEXITSTATUS(status));
}

/* *line = its next line, without the newline, in p->in. */
static int
read_line(struct program *p, size_t limit, struct df_err *err)
{
	char piece[4096], *end = NULL;

	df_buf_clear(&p->in);
	while (!end) {
		const ssize_t n = read(p->from, piece, sizeof(piece));
		int rc;

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return gone(p, err);
		end = memchr(piece, '\n', (size_t)n);
		if (end && end != piece + n - 1)
			return df_fail(err, DF_EFORMAT, "more than one line was answered");
		df_buf_add(&p->in, piece, (size_t)n - (end != NULL));
		if ((rc = df_buf_check(&p->in, err)) != DF_OK)
			return rc;
		if (p->in.len > limit)
			return df_fail(err, DF_EFORMAT, "an answer of more than %zu bytes", limit);
	}
	return DF_OK;
}

/* ---- weights ---------------------------------------------------------------------------------------------------- */

static void
put_question(const struct df_weigh_group *g, struct df_buf *out)
{
	df_buf_printf(out, "{\"step\":%" PRIu64 ",\"id\":[", g->step);
	for (size_t i = 0; i < g->n; i++)
		df_buf_printf(out, "%s%" PRIu64, i ? "," : "", g->id[i]);
	df_buf_puts(out, "],\"domain\":[");
	for (size_t i = 0; i < g->n; i++)
		df_buf_printf(out, "%s%u", i ? "," : "", (unsigned)g->domain[i]);
	df_buf_puts(out, "],\"n_targets\":[");
	for (size_t i = 0; i < g->n; i++)
		df_buf_printf(out, "%s%" PRIu32, i ? "," : "", g->n_targets[i]);
	df_buf_puts(out, "],\"loss\":[");
	for (size_t i = 0; i < g->n; i++) {
		df_buf_puts(out, i ? "," : "");
		df_buf_json_double(out, g->loss[i]);
	}
	df_buf_puts(out, "]}\n");
}

static int
take_answer(const struct program *p, size_t n, double *weight, struct df_err *err)
{
	struct df_json *doc = NULL;
	const struct df_json_value *root;
	int rc;

	DF_TRY(df_json_parse_line(&doc, p->in.data, p->in.len, err));
	root = df_json_root(doc);
	if (df_json_type(root) != DF_JSON_ARRAY || df_json_size(root) != n) {
		rc = df_fail(err, DF_EFORMAT, "the answer must be a list of %zu weights", n);
		goto out;
	}
	for (size_t i = 0; i < n; i++) {
		if (!df_json_number(df_json_at(root, i), &weight[i])) {
			rc = df_fail(err, DF_EFORMAT, "weight %zu of its answer is no number", i);
			goto out;
		}
	}
out:
	df_json_free(doc);
	return rc;
}

static int
ask(struct program *p, const struct df_weigh_group *g, double *weight, struct df_err *err)
{
	int rc;

	df_buf_clear(&p->out);
	put_question(g, &p->out);
	DF_TRY(df_buf_check(&p->out, err));
	rc = df_write_all(p->to, p->out.data, p->out.len, err);
	if (rc != DF_OK)
		return gone(p, err);
	DF_TRY(read_line(p, 64 * g->n + 4096, err));
	DF_TRY(take_answer(p, g->n, weight, err));
out:
	if (rc != DF_OK && rc != DF_ESTOPPED)
		df_err_prefix(err, "the program '%s': ", p->command);
	return rc;
}

static int
weights(const void *options, const struct df_weigh_group *g, double *weight, struct df_err *err)
{
	int rc = DF_OK;

	(void)options;
	for (size_t i = 0; i < g->n; i++)
		weight[i] = g->given ? (double)g->given[i] : 1;
	if (g->state)
		DF_TRY(ask(g->state, g, weight, err));
	for (size_t i = 0; i < g->n; i++)
		weight[i] /= (double)g->n;
out:
	return rc;
}

/* clang-format off */
static const struct df_opt options[] = {
	{ .name = "program", .type = DF_OPT_STR, .value = DF_OPT_AT(struct options, program), .arg = "COMMAND",
	    .help = "it reads the losses of a group, and answers with weights" },
	DF_OPT_END };
/* clang-format on */

static const struct df_opt_alias aliases[] = {
	{ "strategy", NULL, "DataFlex's custom weigher does not look at it either" },
	{ 0 },
};

const struct df_weigher df_weigh_custom = {
	.name = "custom",
	.about = "by a file (--weights), a program or a plug-in of yours",
	.takes_given = true,
	.defaults = &(const struct options){ 0 },
	.defaults_size = sizeof(struct options),
	.options = options,
	.alias = aliases,
	.open = start,
	.close = stop,
	.weights = weights,
};
