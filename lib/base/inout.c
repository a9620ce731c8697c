/*
 * inout.c - what this command reads and writes, in two lists.
 */
#include "base/inout.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/path.h"

struct note {
	char *name;   /* as the user, or the function that opened it, wrote it */
	char *real;   /* all links followed; NULL for a file without a name (on standard input) */
	char *option; /* the option that named it; NULL: it was noted when it was opened */
	bool is_dir;  /* a directory that is replaced as a whole */
	bool there;   /* it exists, and is: */
	dev_t dev;
	ino_t ino;
};

struct notes {
	struct note *v;
	size_t n, cap;
};

static struct {
	pthread_mutex_t lock;
	bool on;
	struct notes reads, writes, own;
} inout = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void
release(struct note *x)
{
	free(x->name);
	free(x->real);
	free(x->option);
}

static void
clear(struct notes *l)
{
	for (size_t i = 0; i < l->n; i++)
		release(&l->v[i]);
	free(l->v);
	*l = (struct notes){ NULL, 0, 0 };
}

void
df_inout_on(void)
{
	pthread_mutex_lock(&inout.lock);
	inout.on = true;
	pthread_mutex_unlock(&inout.lock);
}

void
df_inout_off(void)
{
	pthread_mutex_lock(&inout.lock);
	inout.on = false;
	clear(&inout.reads);
	clear(&inout.writes);
	clear(&inout.own);
	pthread_mutex_unlock(&inout.lock);
}

/* Fill *x.  *none = the path cannot clash with another: a pipe, a terminal, /dev/null, an empty name. */
static int
look(struct note *x, const char *path, const char *option, bool is_dir, bool *none, struct df_err *err)
{
	const bool standard = strcmp(path, "-") == 0;
	struct stat st;
	int rc = DF_OK;

	*x = (struct note){ .is_dir = is_dir };
	x->there = (standard ? fstat(STDIN_FILENO, &st) : stat(path, &st)) == 0;
	*none = x->there ? !S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode) : standard || path[0] == '\0';
	if (*none)
		return DF_OK;
	if (x->there) {
		x->dev = st.st_dev;
		x->ino = st.st_ino;
	}
	DF_TRY(df_strdup(&x->name, standard ? "standard input" : path, err));
	if (option)
		DF_TRY(df_strdup(&x->option, option, err));
	/* A path that leads nowhere (a circle of links) is reported when it is opened. */
	if (!standard && df_path_real(&x->real, path, NULL) == DF_ENOMEM)
		rc = df_fail(err, DF_ENOMEM, "%s: no memory for its name", path);
out:
	if (rc != DF_OK)
		release(x);
	return rc;
}

static int
add(struct notes *l, struct note *x, struct df_err *err)
{
	int rc = df_grow(&l->v, &l->cap, l->n + 1, sizeof(*l->v), "names of files", err);

	if (rc == DF_OK)
		l->v[l->n++] = *x;
	else
		release(x);
	return rc;
}

static bool
same(const struct note *a, const struct note *b)
{
	if (a->there && b->there && a->dev == b->dev && a->ino == b->ino)
		return true;
	return a->real && b->real && strcmp(a->real, b->real) == 0;
}

/* Is `path` in the directory `dir`?  Both with all links followed. */
static bool
is_below(const char *dir, const char *path)
{
	const size_t n = strlen(dir);

	return strncmp(dir, path, n) == 0 && (path[n] == '/' || (n == 1 && path[1] != '\0'));
}

static bool
replaces(const struct note *out, const struct note *in)
{
	return same(out, in) || (out->is_dir && out->real && in->real && is_below(out->real, in->real));
}

static int
refuse(const struct note *out, const struct note *in, struct df_err *err)
{
	const char *to = out->option ? out->option : "", *from = in->option ? in->option : "";

	return df_fail(err, DF_EUSAGE, "%s%s%s: would replace %s%s%s%s, which this command reads%s", to, *to ? " " : "",
	    out->name, from, *from ? " " : "", in->name, same(out, in) ? "" : " in it",
	    out->option && in->option ? "" : "; choose another name");
}

int
df_inout_read(const char *path, const char *option, struct df_err *err)
{
	struct note x;
	bool none;
	int rc = DF_OK;

	pthread_mutex_lock(&inout.lock);
	if (!inout.on)
		goto out;
	DF_TRY(look(&x, path, option, false, &none, err));
	if (none)
		goto out;
	/* A file that is opened but does not exist cannot be lost. */
	none = !option && !x.there;
	for (size_t i = 0; !option && x.real && i < inout.own.n; i++)
		none |= same(&inout.own.v[i], &x) || (inout.own.v[i].real && is_below(inout.own.v[i].real, x.real));
	for (size_t i = 0; !none && rc == DF_OK && i < inout.writes.n; i++)
		if (replaces(&inout.writes.v[i], &x))
			rc = refuse(&inout.writes.v[i], &x, err);
	if (none || rc != DF_OK) {
		release(&x);
		goto out;
	}
	rc = add(&inout.reads, &x, err);
out:
	pthread_mutex_unlock(&inout.lock);
	return rc;
}

/* Two options may not name one output; an output that is opened is often the same that an option named. */
static int
two_outputs(const struct note *x, struct df_err *err)
{
	for (size_t i = 0; x->option && i < inout.writes.n; i++) {
		const struct note *y = &inout.writes.v[i];

		if (y->option && (replaces(y, x) || replaces(x, y)))
			return df_fail(err, DF_EUSAGE, "%s %s and %s %s: two outputs in one place", y->option, y->name,
			    x->option, x->name);
	}
	return DF_OK;
}

int
df_inout_write(const char *path, const char *option, bool is_dir, struct df_err *err)
{
	struct note x;
	bool none;
	int rc = DF_OK;

	pthread_mutex_lock(&inout.lock);
	if (!inout.on || strcmp(path, "-") == 0)
		goto out;
	DF_TRY(look(&x, path, option, is_dir, &none, err));
	if (none)
		goto out;
	for (size_t i = 0; rc == DF_OK && i < inout.reads.n; i++)
		if (replaces(&x, &inout.reads.v[i]))
			rc = refuse(&x, &inout.reads.v[i], err);
	if (rc == DF_OK)
		rc = two_outputs(&x, err);
	if (rc != DF_OK) {
		release(&x);
		goto out;
	}
	rc = add(&inout.writes, &x, err);
out:
	pthread_mutex_unlock(&inout.lock);
	return rc;
}

void
df_inout_written(const char *path)
{
	pthread_mutex_lock(&inout.lock);
	for (size_t i = inout.writes.n; i-- > 0;) {
		struct note *x = &inout.writes.v[i];

		if (x->option || strcmp(x->name, path) != 0)
			continue;
		release(x);
		*x = inout.writes.v[--inout.writes.n];
		break;
	}
	pthread_mutex_unlock(&inout.lock);
}

int
df_inout_own(const char *path, struct df_err *err)
{
	struct note x;
	bool none;
	int rc = DF_OK;

	pthread_mutex_lock(&inout.lock);
	if (!inout.on)
		goto out;
	DF_TRY(look(&x, path, NULL, true, &none, err));
	if (!none)
		rc = add(&inout.own, &x, err);
out:
	pthread_mutex_unlock(&inout.lock);
	return rc;
}
