/*
 * apart.c - a choice on its way from one process to another.
 *
 * The shared file has a page with the stage, and after it the choice as numbers, arrays and texts, each text with its
 * length in front.  The reader believes no length.
 */
#include "select/apart.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/stop.h"

#define PAGE      4096
#define NO_TEXT   UINT64_MAX
#define MAX_TEXTS 65536 /* parameters, inputs, domains */

struct df_apart_head {
	atomic_int stage;
};

int
df_apart_open(struct df_apart *a, struct df_err *err)
{
	void *page;
	int rc = DF_OK;

	*a = (struct df_apart){ .fd = memfd_create("df-score", MFD_CLOEXEC) };
	if (a->fd < 0 || ftruncate(a->fd, PAGE) != 0) {
		rc = df_fail(err, DF_ENOMEM, "memory for the plug-in's choice:");
		goto out;
	}
	page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, a->fd, 0);
	if (page == MAP_FAILED) {
		rc = df_fail(err, DF_ENOMEM, "memory for the plug-in's choice:");
		goto out;
	}
	a->head = page;
out:
	if (rc != DF_OK)
		df_apart_close(a);
	return rc;
}

void
df_apart_close(struct df_apart *a)
{
	if (a->head)
		munmap(a->head, PAGE);
	if (a->fd >= 0)
		close(a->fd);
	*a = (struct df_apart){ .fd = -1 };
}

void
df_apart_reach(struct df_apart *a, enum df_apart_stage stage)
{
	atomic_store(&a->head->stage, (int)stage);
}

void
df_apart_choice_release(struct df_apart_choice *c)
{
	df_selection_release(&c->selection);
	free(c->index);
	free(c->scores);
	*c = (struct df_apart_choice)DF_APART_CHOICE_INIT;
}

/* ---- giving ---------------------------------------------------------------------------------- */

static void
put_number(struct df_buf *b, uint64_t x)
{
	df_buf_add(b, &x, sizeof(x));
}

static void
put_text(struct df_buf *b, const char *s)
{
	put_number(b, s ? strlen(s) : NO_TEXT);
	if (s)
		df_buf_add(b, s, strlen(s));
}

static void
put_array(struct df_buf *b, const void *v, uint64_t n, size_t size)
{
	put_number(b, v != NULL);
	if (v && n > 0)
		df_buf_add(b, v, n * size);
}

static void
put_meta(struct df_buf *b, const struct df_meta *m)
{
	put_text(b, m->tool);
	put_text(b, m->version);
	put_number(b, m->n_params);
	for (size_t i = 0; i < m->n_params; i++) {
		put_text(b, m->params[i].key);
		put_text(b, m->params[i].json);
	}
	put_number(b, m->n_inputs);
	for (size_t i = 0; i < m->n_inputs; i++) {
		put_text(b, m->inputs[i].role);
		put_text(b, m->inputs[i].kind);
		put_text(b, m->inputs[i].id);
	}
	put_number(b, m->n_domains);
	for (size_t i = 0; i < m->n_domains; i++)
		put_text(b, m->domains[i]);
}

/* The arrays of a selection: where they are, and the size of their elements. */
struct array {
	void **v;
	size_t size;
};
enum { ARRAYS = 5 };

static void
arrays_of(struct df_selection *s, struct array a[ARRAYS])
{
	a[0] = (struct array){ (void **)(void *)&s->score, sizeof(*s->score) };
	a[1] = (struct array){ (void **)(void *)&s->tie, sizeof(*s->tie) };
	a[2] = (struct array){ (void **)(void *)&s->probability, sizeof(*s->probability) };
	a[3] = (struct array){ (void **)(void *)&s->cluster, sizeof(*s->cluster) };
	a[4] = (struct array){ (void **)(void *)&s->domain, sizeof(*s->domain) };
}

int
df_apart_give(struct df_apart *a, const struct df_apart_choice *c, struct df_err *err)
{
	struct df_selection s = c->selection;
	struct df_buf b = DF_BUF_INIT;
	struct array arrays[ARRAYS];
	int rc = DF_OK;

	put_text(&b, c->index);
	put_text(&b, c->scores);
	put_number(&b, c->quiet);
	put_number(&b, (uint64_t)c->verbose);
	put_meta(&b, &s.meta);
	put_number(&b, s.n_rows);
	put_number(&b, s.n_invalid);
	put_number(&b, s.n_index);
	put_array(&b, s.index, s.n_index, sizeof(*s.index));
	arrays_of(&s, arrays);
	for (int i = 0; i < ARRAYS; i++)
		put_array(&b, *arrays[i].v, s.n_rows, arrays[i].size);
	DF_TRY(df_buf_check(&b, err));
	for (size_t at = 0; at < b.len;) {
		const ssize_t n = pwrite(a->fd, b.data + at, b.len - at, (off_t)(PAGE + at));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			rc = df_fail(err, DF_EIO, "handing the choice over:");
			goto out;
		}
		at += (size_t)n;
	}
	df_apart_reach(a, DF_APART_DONE);
out:
	df_buf_release(&b);
	return rc;
}

/* ---- waiting --------------------------------------------------------------------------------- */

int
df_apart_wait(struct df_apart *a, pid_t child, const char *who, int *status, struct df_err *err)
{
	static const char *const doing[] = { [DF_APART_LOADING] = "when it was loaded",
		[DF_APART_PARSING] = "when its options were read",
		[DF_APART_RUNNING] = "when it ran" };
	const struct timespec tick = { 0, 2000000 };
	bool told = false;
	int how = 0, stage;
	pid_t got;

	*status = -1;
	while ((got = waitpid(child, &how, WNOHANG)) == 0 || (got < 0 && errno == EINTR)) {
		if (df_stop_requested() && !told) {
			kill(child, SIGTERM);
			told = true;
		}
		nanosleep(&tick, NULL);
	}
	if (got < 0)
		return df_fail(err, DF_EIO, "waiting for the plug-in:");
	stage = atomic_load(&a->head->stage);
	if (WIFEXITED(how) && (stage == DF_APART_PARSING || stage == DF_APART_TOLD)) {
		*status = WEXITSTATUS(how);
		return DF_OK;
	}
	if (WIFEXITED(how) && stage == DF_APART_DONE && WEXITSTATUS(how) == 0)
		return DF_OK;
	if (df_stop_requested())
		return df_fail(err, DF_ESTOPPED, "stopped by a signal while the plug-in %s ran", who);
	if (stage < 0 || stage > DF_APART_RUNNING)
		stage = DF_APART_RUNNING;
	if (WIFSIGNALED(how))
		return df_fail(err, DF_EFORMAT, "the plug-in %s crashed %s: signal %d, %s", who, doing[stage],
		    WTERMSIG(how), strsignal(WTERMSIG(how)));
	return df_fail(err, DF_EFORMAT, "the plug-in %s ended the process %s, with status %d", who, doing[stage],
	    WEXITSTATUS(how));
}

/* ---- taking ---------------------------------------------------------------------------------- */

struct reader {
	const char *data;
	size_t n, at;
};

static int
damaged(struct df_err *err)
{
	return df_fail(err, DF_EFORMAT, "the choice of the plug-in is damaged");
}

static int
get_number(struct reader *r, uint64_t *x, struct df_err *err)
{
	if (r->n - r->at < sizeof(*x))
		return damaged(err);
	memcpy(x, r->data + r->at, sizeof(*x));
	r->at += sizeof(*x);
	return DF_OK;
}

static int
get_text(struct reader *r, char **s, struct df_err *err)
{
	uint64_t n;
	int rc = DF_OK;

	*s = NULL;
	DF_TRY(get_number(r, &n, err));
	if (n == NO_TEXT)
		return DF_OK;
	if (n > r->n - r->at || memchr(r->data + r->at, '\0', n))
		return damaged(err);
	DF_TRY(df_strndup(s, r->data + r->at, n, err));
	r->at += n;
out:
	return rc;
}

/* A text that must be there. */
static int
need_text(struct reader *r, char **s, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(get_text(r, s, err));
	if (!*s)
		rc = damaged(err);
out:
	return rc;
}

static int
get_array(struct reader *r, void **v, uint64_t n, size_t size, struct df_err *err)
{
	uint64_t there;
	size_t bytes;
	int rc = DF_OK;

	DF_TRY(get_number(r, &there, err));
	if (!there)
		return DF_OK;
	DF_TRY(df_size_mul(n, size, &bytes, "the choice of the plug-in", err));
	if (bytes > r->n - r->at)
		return damaged(err);
	DF_TRY(df_alloc(v, n, size, "the choice of the plug-in", err));
	memcpy(*v, r->data + r->at, bytes);
	r->at += bytes;
out:
	return rc;
}

static int
get_count(struct reader *r, uint64_t *n, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(get_number(r, n, err));
	if (*n > MAX_TEXTS)
		rc = damaged(err);
out:
	return rc;
}

static int
get_params(struct reader *r, struct df_meta *m, struct df_err *err)
{
	struct df_json *j = NULL;
	uint64_t n;
	int rc = DF_OK;

	DF_TRY(get_count(r, &n, err));
	DF_TRY(df_grow(&m->params, &m->cap_params, n + 1, sizeof(*m->params), "parameters", err));
	for (uint64_t i = 0; i < n; i++) {
		struct df_param_kv *p = &m->params[m->n_params];

		*p = (struct df_param_kv){ 0 };
		m->n_params++;
		DF_TRY(need_text(r, &p->key, err));
		DF_TRY(need_text(r, &p->json, err));
		DF_TRY(df_json_parse(&j, p->json, strlen(p->json), "a parameter of the plug-in", err));
		df_json_free(j);
		j = NULL;
	}
out:
	return rc;
}

static int
get_meta(struct reader *r, struct df_meta *m, struct df_err *err)
{
	char *text[3] = { NULL };
	uint64_t n;
	int rc = DF_OK;

	DF_TRY(get_text(r, &m->tool, err));
	DF_TRY(get_text(r, &m->version, err));
	DF_TRY(get_params(r, m, err));
	DF_TRY(get_count(r, &n, err));
	for (uint64_t i = 0; i < n; i++) {
		for (int k = 0; k < 3; k++) {
			free(text[k]);
			text[k] = NULL;
			DF_TRY(need_text(r, &text[k], err));
		}
		DF_TRY(df_meta_add_input(m, text[0], text[1], text[2], err));
	}
	DF_TRY(get_count(r, &n, err));
	for (uint64_t i = 0; i < n; i++) {
		free(text[0]);
		text[0] = NULL;
		DF_TRY(need_text(r, &text[0], err));
		DF_TRY(df_meta_add_domain(m, text[0], NULL, err));
	}
out:
	for (int k = 0; k < 3; k++)
		free(text[k]);
	return rc;
}

static int
get_choice(struct reader *r, struct df_apart_choice *c, struct df_err *err)
{
	struct df_selection *s = &c->selection;
	struct array arrays[ARRAYS];
	uint64_t x = 0;
	int rc = DF_OK;

	DF_TRY(get_text(r, &c->index, err));
	DF_TRY(get_text(r, &c->scores, err));
	DF_TRY(get_number(r, &x, err));
	c->quiet = x != 0;
	DF_TRY(get_number(r, &x, err));
	c->verbose = (int64_t)x;
	DF_TRY(get_meta(r, &s->meta, err));
	DF_TRY(get_number(r, &s->n_rows, err));
	DF_TRY(get_number(r, &s->n_invalid, err));
	DF_TRY(get_number(r, &s->n_index, err));
	DF_TRY(get_array(r, (void **)(void *)&s->index, s->n_index, sizeof(*s->index), err));
	arrays_of(s, arrays);
	for (int i = 0; i < ARRAYS; i++)
		DF_TRY(get_array(r, arrays[i].v, s->n_rows, arrays[i].size, err));
	if (s->n_index > 0 && !s->index)
		rc = damaged(err);
	for (uint64_t i = 0; rc == DF_OK && i < s->n_index; i++)
		if (s->index[i] >= s->n_rows)
			rc = damaged(err);
	for (uint64_t i = 0; rc == DF_OK && s->domain && i < s->n_rows; i++)
		if (s->domain[i] >= s->meta.n_domains)
			rc = damaged(err);
out:
	return rc;
}

int
df_apart_take(struct df_apart *a, struct df_apart_choice *c, struct df_err *err)
{
	struct reader r = { 0 };
	struct stat st;
	void *data = MAP_FAILED;
	int rc = DF_OK;

	*c = (struct df_apart_choice)DF_APART_CHOICE_INIT;
	if (fstat(a->fd, &st) != 0 || st.st_size <= PAGE)
		return damaged(err);
	data = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, a->fd, 0);
	if (data == MAP_FAILED) {
		rc = df_fail(err, DF_ENOMEM, "the choice of the plug-in:");
		goto out;
	}
	r = (struct reader){ .data = (const char *)data + PAGE, .n = (size_t)st.st_size - PAGE };
	DF_TRY(get_choice(&r, c, err));
out:
	if (data != MAP_FAILED)
		munmap(data, (size_t)st.st_size);
	return rc;
}
