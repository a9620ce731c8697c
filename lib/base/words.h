/*
 * words.h - for an unknown word, find the known one that was meant.
 *
 * Lists of names end with NULL.  Near means at most one edit (insert, delete, replace, swap of neighbours) per
 * three letters, so that a suggestion is never absurd.  '-' and '_' are equal, 'A' and 'a' too, and the beginning
 * of a name is near to it.
 */
#ifndef DF_BASE_WORDS_H
#define DF_BASE_WORDS_H

#include <stddef.h>

#include "base/err.h"

/* The name nearest to s, or NULL if none is near. */
const char *df_nearest(const char *s, const char *const *names);

/* One step of df_nearest(), for names that are in no list: begin with *best = NULL, *dist = SIZE_MAX. */
void df_nearer(const char *s, const char *name, const char **best, size_t *dist);

/*
 * "unknown WHAT 'WORD'; did you mean 'NAME'?"  Returns code.  When no name is near, `more` ends the message
 * ("df-pack --list-templates shows the known ones"); if it is NULL, the known names end it, if they are few.
 */
int df_unknown(struct df_err *err, int code, const char *what, const char *word, const char *const *names,
    const char *more);

/* Add "; did you mean 'NAME'?" to an error that word caused, when a name is near. */
void df_suggest(struct df_err *err, const char *word, const char *const *names);

#endif
