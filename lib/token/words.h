/*
 * words.h - the words and the runs of punctuation of a text, as Python's regular expression \w+|[^\w\s]+ finds them.
 */
#ifndef DF_TOKEN_WORDS_H
#define DF_TOKEN_WORDS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The next one in n bytes of UTF-8 (which is not checked) at or after *at: true, and it is [*at, *at + *len); false at
 * the end.  Begin with *at = 0, and add *len before the next call.  Any thread.
 */
bool df_word_next(const char *s, size_t n, size_t *at, size_t *len);

#endif
