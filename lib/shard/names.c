/*
 * names.c - the files that a user's argument stands for.
 *
 *     FILE.h5                     itself; or, when there is none, its shards FILE.00001-of-00004.h5 ...
 *     DIR                         its *.h5 files of the wanted kind
 *     'g*.h5'                     a glob that the shell did not expand
 *
 * Shards are put in their order and must all exist, unless just one file was named: then the user wants that shard
 * only.
 */
#include "shard/shard_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

void
df_paths_release(struct df_paths *p)
{
	for (size_t i = 0; i < p->n; i++)
		free(p->v[i]);
	free(p->v);
	*p = (struct df_paths){ NULL, 0, 0 };
}

static int
add(struct df_paths *p, const char *path, struct df_err *err)
{
	char *copy = NULL;
	int rc;

	DF_TRY(df_strdup(&copy, path, err));
	DF_TRY(df_grow(&p->v, &p->cap, p->n + 1, sizeof(*p->v), "paths", err));
	p->v[p->n++] = copy;
	return DF_OK;
out:
	free(copy);
	return rc;
}

static const char h5[] = ".h5"; /* what the names of artefacts end in */

/* Where ".NNNNN-of-NNNNN" and ext begin in path, with the numbers; 0 when it has no such end. */
static size_t
shard_suffix(const char *path, const char *ext, unsigned *i, unsigned *n)
{
	static const char shape[] = ".ddddd-of-ddddd";
	const size_t len = strlen(path), end = sizeof(shape) - 1 + strlen(ext), at = len - end;

	if (len <= end || strcmp(path + at + sizeof(shape) - 1, ext) != 0)
		return 0;
	for (size_t k = 0; shape[k]; k++)
		if (shape[k] == 'd' ? path[at + k] < '0' || path[at + k] > '9' : path[at + k] != shape[k])
			return 0;
	return sscanf(path + at, ".%5u-of-%5u", i, n) == 2 ? at : 0;
}

/* The length of path without ext */
static size_t
stem_length(const char *path, const char *ext)
{
	const size_t len = strlen(path), n = strlen(ext);

	return len > n && strcmp(path + len - n, ext) == 0 ? len - n : len;
}

void
df_shard_range(struct df_shard_arg shard, uint64_t n_blocks, uint64_t *first, uint64_t *end)
{
	uint64_t n = shard.n ? shard.n : 1, each = n_blocks / n, extra = n_blocks % n;

	*first = shard.i * each + (shard.i < extra ? shard.i : extra);
	*end = *first + each + (shard.i < extra);
}

int
df_spool_open(int *fd, char **path, struct df_err *err)
{
	const char *dir = getenv("TMPDIR");
	char *name = NULL;
	int rc;

	dir = dir && *dir ? dir : "/tmp";
	DF_TRY(df_asprintf(&name, err, "%s/df-spool-XXXXXX", dir));
	if ((*fd = mkostemp(name, O_CLOEXEC)) < 0) {
		rc = df_fail(err, DF_ECREATE, "cannot make a temporary file in %s:", dir);
		goto out;
	}
	*path = name;
	name = NULL;
out:
	free(name);
	return rc;
}

static bool
has_glob(const char *path)
{
	return strpbrk(path, "*?[") != NULL;
}

/* The errno of the first directory that glob(3) could not read; 0: it read all. */
static _Thread_local int glob_errno;

static int
note_errno(const char *dir, int e)
{
	(void)dir;
	if (glob_errno == 0 && e != ENOENT && e != ENOTDIR)
		glob_errno = e;
	return 0;
}

/*
 * Matches of a pattern, sorted; only those of `kind` when filtering.  When there are none because a directory
 * cannot be read, that is an error, with the given path.
 */
static int
add_glob(struct df_paths *p, const char *pattern, const char *path, enum df_kind kind, bool filter, struct df_err *err)
{
	glob_t g = { .gl_pathc = 0 };
	int rc = DF_OK, r;

	glob_errno = 0;
	r = glob(pattern, 0, note_errno, &g);
	if (r == GLOB_NOSPACE)
		return df_fail(err, DF_ENOMEM, "out of memory for '%s'", pattern);
	if (glob_errno != 0 && g.gl_pathc == 0) {
		globfree(&g);
		errno = glob_errno;
		return df_fail(err, DF_ENOINPUT, "%s:", path);
	}
	for (size_t i = 0; r == 0 && i < g.gl_pathc && rc == DF_OK; i++) {
		if (!filter || df_kind_fits(df_h5_peek_kind(g.gl_pathv[i]), kind))
			rc = add(p, g.gl_pathv[i], err);
		else if (access(g.gl_pathv[i], R_OK) != 0 && errno != ENOENT)
			rc = df_fail(err, DF_ENOINPUT, "%s:", g.gl_pathv[i]);
	}
	globfree(&g);
	return rc;
}

/* A pattern that matches `text` itself: glob characters in a directory's name are not wildcards. */
static int
glob_quote(struct df_buf *b, const char *text, size_t n, struct df_err *err)
{
	for (size_t i = 0; i < n; i++) {
		if (strchr("*?[\\", text[i]))
			df_buf_putc(b, '\\');
		df_buf_putc(b, text[i]);
	}
	return df_buf_check(b, err);
}

/* Append the files of path's shards, or what is still being written (".NAME.h5.df-tmp" and its like). */
static int
add_shards(struct df_paths *p, const char *path, const char *ext, bool begun, enum df_kind kind, struct df_err *err)
{
	static const char numbers[] = ".[0-9][0-9][0-9][0-9][0-9]-of-[0-9][0-9][0-9][0-9][0-9]";
	const char *base = df_path_base(path);
	const size_t dir = (size_t)(base - path);
	struct df_buf b = DF_BUF_INIT;
	int rc = DF_OK;

	DF_TRY(glob_quote(&b, path, dir, err));
	if (begun)
		df_buf_putc(&b, '.');
	DF_TRY(glob_quote(&b, base, stem_length(path, ext) - dir, err));
	df_buf_puts(&b, numbers);
	DF_TRY(glob_quote(&b, ext, strlen(ext), err));
	if (begun)
		df_buf_puts(&b, ".df-*");
	DF_TRY(df_buf_check(&b, err));
	rc = add_glob(p, b.data, path, kind, false, err);
out:
	df_buf_release(&b);
	return rc;
}

static int
expand_one(struct df_paths *p, const char *path, enum df_kind kind, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	size_t before = p->n, len = strlen(path);
	struct stat st;
	bool there;
	int rc = DF_OK;

	if (strcmp(path, "-") != 0 && !has_glob(path))
		DF_TRY(df_file_probe(path, &there, err));
	if (strcmp(path, "-") == 0 || (stat(path, &st) == 0 && !S_ISDIR(st.st_mode))) {
		DF_TRY(add(p, path, err));
	} else if (df_file_is_dir(path)) {
		DF_TRY(glob_quote(&b, path, len, err));
		df_buf_puts(&b, path[len - 1] == '/' ? "*.h5" : "/*.h5");
		DF_TRY(df_buf_check(&b, err));
		DF_TRY(add_glob(p, b.data, path, kind, true, err));
		if (p->n == before) {
			rc = df_fail(err, DF_ENOINPUT, "%s: no %s%sfile in this directory", path,
			    kind == DF_KIND_ANY ? "" : df_kind_name(kind), kind == DF_KIND_ANY ? "" : " ");
			goto out;
		}
	} else if (has_glob(path)) {
		DF_TRY(add_glob(p, path, path, kind, false, err));
		if (p->n == before) {
			rc = df_fail(err, DF_ENOINPUT, "%s: no file matches", path);
			goto out;
		}
	} else {
		if (stem_length(path, h5) < len)
			DF_TRY(add_shards(p, path, h5, false, kind, err));
		if (p->n == before)
			rc = df_fail(err, DF_ENOINPUT, "%s: no such file", path);
	}
out:
	df_buf_release(&b);
	return rc;
}

/* Sort the shards of one family by number; everything else stays in place. */
static int
by_shard(const char *a, const char *b)
{
	unsigned ia, na, ib, nb;
	size_t pa = shard_suffix(a, h5, &ia, &na), pb = shard_suffix(b, h5, &ib, &nb);

	if (pa == 0 || pa != pb || na != nb || memcmp(a, b, pa) != 0)
		return 0;
	return ia < ib ? -1 : ia > ib;
}

/* Fails if not all of seen[1..n] are: the first one's name, and all numbers as sbatch --array takes them: 3,7-9. */
static int
check_family(const char *path, size_t stem, const bool *seen, unsigned n, struct df_err *err)
{
	struct df_buf list = DF_BUF_INIT;
	unsigned first = 0, missing = 0, end;
	int rc = DF_OK;

	for (unsigned k = 1; k <= n; k = end) {
		for (end = k + 1; end <= n && !seen[end] == !seen[k]; end++)
			;
		if (seen[k])
			continue;
		first = first ? first : k;
		missing += end - k;
		df_buf_printf(&list, end - k > 1 ? "%s%u-%u" : "%s%u", list.len ? "," : "", k, end - 1);
	}
	if (missing == 0)
		goto out;
	DF_TRY(df_buf_check(&list, err));
	if (missing == 1) {
		rc = df_fail(err, DF_ENOINPUT, "%.*s.%05u-of-%05u.h5 is missing (shard %s)", (int)stem, path, first, n,
		    list.data);
	} else {
		rc = df_fail(err, DF_ENOINPUT, "%.*s.%05u-of-%05u.h5 and %u more are missing (shards %s)", (int)stem,
		    path, first, n, missing - 1, list.data);
	}
out:
	df_buf_release(&list);
	return rc;
}

static int
check_families(const struct df_paths *p, struct df_err *err)
{
	for (size_t i = 0; i < p->n; i++) {
		unsigned number, n, other, other_n;
		size_t at = shard_suffix(p->v[i], h5, &number, &n);
		bool *seen = NULL;
		int rc;

		if (at == 0 || n == 0)
			continue;
		if ((rc = df_alloc(&seen, n + 1, sizeof(*seen), "shards", err)) != DF_OK)
			return rc;
		for (size_t k = 0; k < p->n; k++)
			if (shard_suffix(p->v[k], h5, &other, &other_n) == at && other_n == n &&
			    memcmp(p->v[k], p->v[i], at) == 0 && other <= n)
				seen[other] = true;
		rc = check_family(p->v[i], at, seen, n, err);
		free(seen);
		if (rc != DF_OK)
			return rc;
		/* The rest of this family follows it. */
		while (i + 1 < p->n && shard_suffix(p->v[i + 1], h5, &other, &other_n) == at && other_n == n &&
		    memcmp(p->v[i + 1], p->v[i], at) == 0)
			i++;
	}
	return DF_OK;
}

int
df_paths_expand(struct df_paths *out, const char *const *paths, size_t n, enum df_kind kind, struct df_err *err)
{
	struct df_paths p = { NULL, 0, 0 };
	int rc = DF_OK;

	for (size_t i = 0; i < n; i++)
		DF_TRY(expand_one(&p, paths[i], kind, err));
	/* Insertion sort: stable, and names mostly come in order. */
	for (size_t i = 1; i < p.n; i++)
		for (size_t k = i; k > 0 && by_shard(p.v[k - 1], p.v[k]) > 0; k--) {
			char *t = p.v[k];

			p.v[k] = p.v[k - 1];
			p.v[k - 1] = t;
		}
	if (p.n > 1 || (n == 1 && p.n == 1 && strcmp(p.v[0], paths[0]) != 0))
		DF_TRY(check_families(&p, err));
	*out = p;
	return DF_OK;
out:
	df_paths_release(&p);
	return rc;
}

/* ---- the name of a shard that is to be written ------------------------------------------------------ */

static int
shard_path(char **out, const char *path, const char *ext, uint32_t i, uint32_t n, struct df_err *err)
{
	return df_asprintf(out, err, "%.*s.%05u-of-%05u%s", (int)stem_length(path, ext), path, i + 1, n, ext);
}

/* Where the ".NNNNN-of-NNNNN" of a shard begins, finished or begun, with its numbers; 0: it is none. */
static size_t
shard_numbers(const char *path, const char *ext, unsigned *i, unsigned *n)
{
	const char *end = path;
	char *name;
	size_t at = shard_suffix(path, ext, i, n);

	if (at > 0)
		return at;
	for (const char *s = path; (s = strstr(s, ".df-")) != NULL; s++)
		end = s;
	if (!(name = strndup(path, (size_t)(end - path))))
		return 0;
	at = shard_suffix(name, ext, i, n);
	free(name);
	return at;
}

/* Part `want` (from 1) of the n if it is not finished, else the first that is not; n + 1 when all are finished. */
static int
missing_part(const char *path, const char *ext, unsigned want, unsigned n, unsigned *part, struct df_err *err)
{
	char *name = NULL;
	bool there;

	for (unsigned k = want >= 1 && want <= n ? 0 : 1; k <= n; k++) {
		int rc = shard_path(&name, path, ext, (k > 0 ? k : want) - 1, n, err);

		if (rc != DF_OK)
			return rc;
		there = df_file_exists(name);
		free(name);
		*part = k > 0 ? k : want;
		if (!there)
			return DF_OK;
	}
	*part = n + 1;
	return DF_OK;
}

/* Shards of a set with another number of parts must not be beside `path`. */
static int
check_guess(const char *path, const char *ext, struct df_shard_arg shard, struct df_err *err)
{
	struct df_paths p = { NULL, 0, 0 };
	struct df_buf names = DF_BUF_INIT;
	unsigned i, n, part, others = 0, shown = 0;
	int rc = DF_OK;

	DF_TRY(add_shards(&p, path, ext, false, DF_KIND_ANY, err));
	DF_TRY(add_shards(&p, path, ext, true, DF_KIND_ANY, err));
	for (size_t k = 0; k < p.n; k++) {
		unsigned its;

		if (!shard_numbers(p.v[k], ext, &i, &its) || its == shard.n || its == 0 ||
		    (others > 0 && its != others))
			continue;
		others = its;
		if (shown++ < 3)
			df_buf_printf(&names, "%s%s", shown > 1 ? ", " : "", df_path_base(p.v[k]));
	}
	if (others == 0)
		goto out;
	n = others;
	DF_TRY(df_buf_check(&names, err));
	DF_TRY(missing_part(path, ext, shard.task, n, &part, err));
	if (part > n)
		rc = df_fail(err, DF_EUSAGE,
		    "--shard auto is part %u of %u here, but all %u parts of %u lie beside the output (%s%s): remove them "
		    "first",
		    shard.i + 1, shard.n, n, n, names.data, shown > 3 ? ", ..." : "");
	else
		rc = df_fail(err, DF_EUSAGE,
		    "--shard auto is part %u of %u here, but parts of %u lie beside the output (%s%s): for one of those "
		    "give its number, as in --shard %u/%u; for a new set remove them first",
		    shard.i + 1, shard.n, n, names.data, shown > 3 ? ", ..." : "", part, n);
out:
	df_buf_release(&names);
	df_paths_release(&p);
	return rc;
}

static int
shard_name(char **out, const char *path, const char *ext, struct df_shard_arg shard, struct df_err *err)
{
	int rc;

	*out = NULL;
	if (shard.n > 1 && strcmp(path, "-") == 0)
		return df_fail(err, DF_EUSAGE, "a shard needs a file name to write to, not '-'");
	if (shard.n > 99999)
		return df_fail(err, DF_EUSAGE, "%u shards; 99999 is the most", shard.n);
	if (shard.guessed && strcmp(path, "-") != 0 && (rc = check_guess(path, ext, shard, err)) != DF_OK)
		return rc;
	return shard.n > 1 ? shard_path(out, path, ext, shard.i, shard.n, err) : df_strdup(out, path, err);
}

int
df_shard_name(char **out, const char *path, struct df_shard_arg shard, struct df_err *err)
{
	return shard_name(out, path, h5, shard, err);
}

int
df_shard_text_name(char **out, const char *path, struct df_shard_arg shard, struct df_err *err)
{
	const char *base = df_path_base(path), *dot = strrchr(base, '.');

	return shard_name(out, path, dot && dot > base ? dot : "", shard, err);
}
