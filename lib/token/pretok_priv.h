/*
 * pretok_priv.h - what the two files that translate regexes for PCRE2 share.
 */
#ifndef DF_TOKEN_PRETOK_PRIV_H
#define DF_TOKEN_PRETOK_PRIV_H

#include "token/token_priv.h"

/*
 * The class or escape that begins at p[*i] ('[' or a backslash), appended in PCRE2's syntax; *i is moved to its
 * end.  any_case: it is within (?i:.  DF_EUNSUPPORTED when PCRE2 has no exact equivalent.
 */
int df_tok_class(struct df_buf *out, const char *p, size_t n, size_t *i, bool any_case, struct df_err *err)
    DF_MUST_CHECK;

/* Whether PCRE2's general categories are those of Unicode 14 to 16, as pretok_class.c assumes. */
bool df_tok_regex_modern(void);

/* DF_EUNSUPPORTED: what stands at p[at]. */
int df_tok_regex_refuse(struct df_err *err, const char *p, size_t n, size_t at, const char *what) DF_MUST_CHECK;

#endif
