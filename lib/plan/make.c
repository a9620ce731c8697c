/*
 * make.c - the plan as a Makefile for GNU make 4.3.
 *
 * A command is run again when a file that it reads is newer than what it made, or when the command itself, or the
 * settings that it reads, changed: each has a stamp OUT/.plan/NAME.KEY, and another key is another stamp.  Files appear
 * whole or not at all, so that none is deleted when make is stopped.
 *
 * A training run goes on with its checkpoints.  With other settings it would be half of one run and half of another, so
 * that the stamp of such a command is refused where there is one with another key.
 */
#include <inttypes.h>
#include <string.h>

#include "plan/print.h"

#define COLUMNS 112 /* lines are broken before a word that would end beyond this */

struct make {
	const struct df_plan *p;
	struct df_buf *b;
	struct df_buf word;          /* scratch */
	struct df_buf keys, keys_sh; /* the directory of stamps, as a word of rules and of recipes */
	size_t column;               /* of b's last line; a tab counts as 8 */
};

/* ---- words of make ---------------------------------------------------------------- */

/* The first character of a path that no rule of make can have; 0: none. */
static char
impossible(const char *path)
{
	const char *at = path + strcspn(path, "%*?[]\\;|=&()<>'\"`\t\n\r\v\f");

	return *path == '~' ? '~' : *at;
}

static int
check_paths(const struct df_strlist *files, struct df_err *err)
{
	for (size_t i = 0; i < files->n; i++) {
		const char c = impossible(files->v[i]);

		if (c)
			return df_fail(err, DF_EUSAGE, "%s: make cannot have a file whose name has '%c': give another",
			    files->v[i], c);
	}
	return DF_OK;
}

/* A file, as a word of a rule. */
static void
put_path(struct df_buf *b, const char *path)
{
	for (; *path; path++) {
		if (*path == '$')
			df_buf_putc(b, '$');
		else if (strchr(" #:", *path))
			df_buf_putc(b, '\\');
		df_buf_putc(b, *path);
	}
}

/* A word of a command, as a recipe has it. */
static void
put_quoted(struct df_buf *b, const char *word)
{
	const size_t from = b->len;
	size_t n_dollars = 0;

	df_print_sh(b, word);
	for (size_t i = from; !b->failed && i < b->len; i++)
		n_dollars += b->data[i] == '$';
	for (size_t i = 0; i < n_dollars; i++)
		df_buf_putc(b, ' ');
	if (b->failed || n_dollars == 0)
		return;
	for (size_t to = b->len, i = b->len - n_dollars; i-- > from;) {
		b->data[--to] = b->data[i];
		if (b->data[i] == '$')
			b->data[--to] = '$';
	}
}

/* Put m->word into the line, or into the next one; `more` columns should follow it there. */
static void
put_word_with(struct make *m, size_t more)
{
	if (m->column + m->word.len + 1 + more > COLUMNS && m->column > 12) {
		df_buf_puts(m->b, " \\\n\t    ");
		m->column = 12;
	} else if (m->column > 8) {
		df_buf_putc(m->b, ' ');
		m->column++;
	}
	df_buf_puts(m->b, m->word.data ? m->word.data : "");
	m->column += m->word.len;
	df_buf_clear(&m->word);
}

static void
put_word(struct make *m)
{
	put_word_with(m, 0);
}

static void
put_paths(struct make *m, const struct df_strlist *files)
{
	for (size_t i = 0; i < files->n; i++) {
		put_path(&m->word, files->v[i]);
		put_word(m);
	}
}

/* ---- rules ------------------------------------------------------------------------ */

static void
put_stamp(struct make *m, const struct df_plan_node *n)
{
	df_buf_printf(&m->word, "%s/%s.%016" PRIx64, m->keys.data, n->name, n->key);
	put_word(m);
}

/* A, B &: ..., or A B: dir/x.%-of-00002.h5: ... for parts. */
static void
put_targets(struct make *m, const struct df_plan_node *n)
{
	const char *part = n->out.v[0], *dash;

	m->column = 8; /* no space before the first */
	put_paths(m, &n->out);
	df_buf_puts(m->b, n->out.n > 1 && n->shards == 0 ? " &:" : ":");
	if (n->shards > 0) {
		/* %05zu-of-%05zu: the first number is make's stem */
		dash = strstr(strrchr(part, '/') ? strrchr(part, '/') : part, "-of-");
		while (dash && strstr(dash + 1, "-of-"))
			dash = strstr(dash + 1, "-of-");
		for (const char *c = part; *c; c++) {
			const char one[] = { *c, '\0' };

			if (dash && c == dash - 5) {
				df_buf_putc(&m->word, '%');
				c = dash - 1;
			} else {
				put_path(&m->word, one);
			}
		}
		df_buf_putc(&m->word, ':');
		put_word(m);
	}
	put_paths(m, &n->in);
	put_stamp(m, n);
	df_buf_putc(m->b, '\n');
}

/* The length of path[0..n) without its last name. */
static size_t
parent(const char *path, size_t n)
{
	while (n > 0 && path[n - 1] != '/')
		n--;
	return n > 0 ? n - 1 : 0;
}

/* The directories of the files that the node makes, each once. */
static void
put_mkdir(struct make *m, const struct df_plan_node *n)
{
	const char *last = "";
	size_t n_last = 0;

	m->column = 8;
	for (size_t i = 0; i < n->out.n; i++) {
		const char *path = n->out.v[i], *slash = strrchr(path, '/');
		size_t len = slash ? (size_t)(slash - path) : 0;
		char dir[4096];

		if (n->whole)
			len = parent(path, len);
		if (len == 0 || len >= sizeof(dir) || (len == n_last && strncmp(path, last, len) == 0))
			continue;
		if (n_last == 0)
			df_buf_puts(&m->word, "\t@mkdir -p "), put_word(m), m->column = 8;
		memcpy(dir, path, len);
		dir[len] = '\0';
		put_quoted(&m->word, dir);
		put_word(m);
		last = path;
		n_last = len;
	}
	if (n_last)
		df_buf_putc(m->b, '\n');
}

static void
put_recipe(struct make *m, const struct df_plan_node *n)
{
	put_mkdir(m, n);
	df_buf_putc(m->b, '\t');
	m->column = 8;
	for (size_t i = 0; i < n->argv.n; i++) {
		const char *word = n->argv.v[i], *next = i + 1 < n->argv.n ? n->argv.v[i + 1] : "-";

		if (n->shards > 0 && strcmp(word, DF_PLAN_SHARD) == 0)
			df_buf_printf(&m->word, "$*/%zu $(SHARE)", n->shards);
		else
			put_quoted(&m->word, word);
		/* an option and its value stay together */
		put_word_with(m, *word == '-' && *next != '-' ? strlen(next) + 1 : 0);
	}
	if (n->capture) {
		df_buf_puts(&m->word, ">'$@.tmp'");
		put_word(m);
		df_buf_puts(m->b, "\n\t@mv '$@.tmp' '$@'\n");
		return;
	}
	df_buf_puts(m->b, "\n\t@touch");
	m->column = 14;
	if (n->shards > 0) {
		df_buf_puts(&m->word, "'$@'");
		put_word(m);
	}
	for (size_t i = 0; n->shards == 0 && i < n->out.n; i++) {
		put_quoted(&m->word, n->out.v[i]);
		put_word(m);
	}
	df_buf_putc(m->b, '\n');
}

static int
check_words(const struct df_plan_node *n, struct df_err *err)
{
	for (size_t i = 0; i < n->argv.n; i++) {
		if (strchr(n->argv.v[i], '\n'))
			return df_fail(err, DF_EUNSUPPORTED,
			    "%s: a word of more than one line cannot be in a recipe of make: '%.60s'", n->name,
			    n->argv.v[i]);
	}
	return DF_OK;
}

/* ---- the file --------------------------------------------------------------------- */

static void
put_head(struct make *m)
{
	const struct df_plan *p = m->p;

	df_buf_printf(m->b,
	    "# Made by df-plan from %s: %zu commands.\n"
	    "#\n"
	    "# `make -f FILE -jN` runs them; stop it at any time and run it again, it goes on.  `make -n` prints them.\n"
	    "# What is made goes to %s.  It is made again when what it is made from, or its command, changes.\n",
	    p->source, p->n, p->out);
	for (size_t i = 0; i < p->notes.n; i++)
		df_buf_printf(m->b, "%s# - %s\n", i == 0 ? "#\n" : "", p->notes.v[i]);
	df_buf_puts(
	    m->b, "\n$(if $(filter grouped-target,$(.FEATURES)),,$(error this needs GNU make 4.3 or later))\n\n");
	if (strcmp(m->keys.data, "$(KEYS)") == 0)
		df_buf_printf(m->b, "KEYS  = %s/.plan\n", p->out);
	df_buf_puts(m->b,
	    "# Parts that run at the same time share the processors.\n"
	    "JOBS  = $(patsubst -j%,%,$(filter -j%,$(MAKEFLAGS)))\n"
	    "SHARE = $(if $(JOBS),-j $(shell echo $$(( ($$(nproc) + $(JOBS) - 1) / $(JOBS) ))),"
	    "$(if $(filter -j,$(MAKEFLAGS)),-j 1))\n\n");
}

/* The recipes of stamps; a pattern finds those that go on by their names. */
static void
put_stamps(struct make *m)
{
	const char *const dir = m->keys_sh.data;
	bool runs = false;

	df_buf_printf(m->b,
	    "\n%s/%%:\n"
	    "\t@mkdir -p %s\n"
	    "\t@rm -f %s/$(basename $*).*\n"
	    "\t@touch %s/$*\n",
	    m->keys.data, dir, dir, dir);
	for (size_t i = 0; i < m->p->n; i++)
		runs = runs || df_plan_goes_on(&m->p->node[i]);
	if (!runs)
		return;
	df_buf_printf(m->b,
	    "# A run does not go on with other settings.\n"
	    "%s/" DF_PLAN_RUN "%%:\n"
	    "\t@mkdir -p %s\n"
	    "\t@if ls %s/" DF_PLAN_RUN "$(basename $*).* >/dev/null 2>&1; then \\\n"
	    "\t    echo ",
	    m->keys.data, dir, dir);
	put_quoted(&m->word, m->p->out);
	df_buf_puts(&m->word, "' has a run with other settings: remove it, or give another output_dir'");
	df_buf_add(m->b, m->word.data, m->word.len);
	df_buf_clear(&m->word);
	df_buf_printf(m->b, " >&2; \\\n\t    exit 1; \\\n\tfi\n\t@touch %s/" DF_PLAN_RUN "$*\n", dir);
}

static void
put_lists(struct make *m)
{
	const struct df_plan *p = m->p;

	df_buf_puts(m->b, ".PHONY: all\nall:");
	m->column = 12;
	for (size_t i = 0; i < p->n; i++) {
		if (df_plan_is_result(p, &p->node[i]))
			put_paths(m, &p->node[i].out);
	}
	df_buf_puts(m->b,
	    "\n\n# A file that exists is whole: it is kept when make is stopped, and not missed once its readers are done.\n"
	    ".PRECIOUS:");
	m->column = 18;
	for (size_t i = 0; i < p->n; i++)
		put_paths(m, &p->node[i].out);
	df_buf_puts(m->b, "\n.SECONDARY:");
	m->column = 19;
	for (size_t i = 0; i < p->n; i++) {
		if (!df_plan_is_result(p, &p->node[i]))
			put_paths(m, &p->node[i].out);
	}
	df_buf_putc(m->b, '\n');
	put_stamps(m);
}

/* A variable where its value is the same in rules and recipes. */
static int
set_keys(struct make *m, struct df_err *err)
{
	const char *path = df_print_is_plain(m->p->out) ? NULL : m->p->out;
	int rc;

	if (path) {
		put_path(&m->keys, path);
		df_buf_puts(&m->keys, "/.plan");
		put_quoted(&m->keys_sh, path);
		df_buf_puts(&m->keys_sh, "/.plan");
	} else {
		df_buf_puts(&m->keys, "$(KEYS)");
		df_buf_puts(&m->keys_sh, "$(KEYS)");
	}
	rc = df_buf_check(&m->keys, err);
	return rc != DF_OK ? rc : df_buf_check(&m->keys_sh, err);
}

static int
print(const struct df_plan *p, struct df_buf *out, struct df_err *err)
{
	struct make m = { .p = p, .b = out, .word = DF_BUF_INIT, .keys = DF_BUF_INIT, .keys_sh = DF_BUF_INIT };
	int rc = DF_OK;

	for (size_t i = 0; i < p->n; i++) {
		DF_TRY(check_paths(&p->node[i].in, err));
		DF_TRY(check_paths(&p->node[i].out, err));
		DF_TRY(check_words(&p->node[i], err));
	}
	DF_TRY(set_keys(&m, err));
	put_head(&m);
	put_lists(&m);
	for (size_t i = 0; i < p->n; i++) {
		df_buf_printf(out, "\n# %s\n", p->node[i].about);
		put_targets(&m, &p->node[i]);
		put_recipe(&m, &p->node[i]);
	}
	DF_TRY(df_buf_check(&m.word, err));
	rc = df_buf_check(out, err);
out:
	df_buf_release(&m.word);
	df_buf_release(&m.keys);
	df_buf_release(&m.keys_sh);
	return rc;
}

const struct df_printer df_print_make = { "make", "a Makefile", print };
