/*
 * words.c - find the known word that was meant, by edit distance.
 */
#include "base/words.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/buf.h"

/* Names that a message lists when none of them is near. */
#define LISTED_MAX   12
#define LISTED_BYTES 160

/* Lower case, and one of '-' and '_'. */
static char
plain(char c)
{
	return (char)(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c == '_' ? '-' : c);
}

static bool
same_char(char a, char b)
{
	return plain(a) == plain(b);
}

/* Edits (insert, delete, replace, swap of neighbours) from a to b; words of more than 63 bytes are near to none. */
static size_t
edit_distance(const char *a, const char *b)
{
	size_t na = strlen(a), nb = strlen(b);
	size_t d[3][65];

	if (na > 63 || nb > 63)
		return SIZE_MAX;
	for (size_t j = 0; j <= nb; j++)
		d[0][j] = j;
	for (size_t i = 1; i <= na; i++) {
		size_t *cur = d[i % 3], *prev = d[(i + 2) % 3], *prev2 = d[(i + 1) % 3];

		cur[0] = i;
		for (size_t j = 1; j <= nb; j++) {
			size_t best = prev[j - 1] + !same_char(a[i - 1], b[j - 1]);

			if (prev[j] + 1 < best)
				best = prev[j] + 1;
			if (cur[j - 1] + 1 < best)
				best = cur[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && prev2[j - 2] + 1 < best)
				best = prev2[j - 2] + 1;
			cur[j] = best;
		}
	}
	return d[na % 3][nb];
}

void
df_nearer(const char *s, const char *name, const char **best, size_t *best_dist)
{
	size_t dist = edit_distance(s, name), n = strlen(s);

	/* The beginning of a longer name counts as near, too: "temp" for "temperature". */
	if (n >= 3 && strncmp(s, name, n) == 0)
		dist = 1;
	if (dist < *best_dist && dist <= (n + 2) / 3) {
		*best = name;
		*best_dist = dist;
	}
}

const char *
df_nearest(const char *s, const char *const *names)
{
	const char *best = NULL;
	size_t dist = SIZE_MAX;

	for (; *names; names++)
		df_nearer(s, *names, &best, &dist);
	return best;
}

void
df_suggest(struct df_err *err, const char *word, const char *const *names)
{
	const char *near = df_nearest(word, names);

	if (near)
		df_err_suffix(err, "; did you mean '%s'?", near);
}

/* "; known: a, b, c", where the names are few. */
static void
list_names(struct df_err *err, const char *const *names)
{
	struct df_buf b = DF_BUF_INIT;
	size_t n = 0;

	for (; names[n] && n <= LISTED_MAX; n++)
		df_buf_printf(&b, "%s%s", n ? ", " : "", names[n]);
	if (n > 0 && n <= LISTED_MAX && b.data && b.len <= LISTED_BYTES)
		df_err_suffix(err, "; known: %s", b.data);
	df_buf_release(&b);
}

int
df_unknown(struct df_err *err, int code, const char *what, const char *word, const char *const *names, const char *more)
{
	df_fail(err, code, "unknown %s '%.100s'", what, word);
	if (df_nearest(word, names))
		df_suggest(err, word, names);
	else if (more)
		df_err_suffix(err, "; %s", more);
	else
		list_names(err, names);
	return code;
}
