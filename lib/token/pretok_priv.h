/*
 * pretok_priv.h - what the two files that translate regexes for PCRE2 share.
 */
#ifndef DF_TOKEN_PRETOK_PRIV_H
#define DF_TOKEN_PRETOK_PRIV_H

#include "token/token_priv.h"

/*
 * The class or escape that begins at p[*i] ('[' or a backslash), appended in PCRE2's words; *i is moved behind it.
 * any_case: it stands within (?i:.  DF_EUNSUPPORTED when it cannot be said exactly.
 */
int df_tok_class(struct df_buf *out, const char *p, size_t n, size_t *i, bool any_case, struct df_err *err)
    DF_MUST_CHECK;

/* Whether PCRE2's general categories are those of Unicode 14 to 16, on which pretok_class.c counts. */
bool df_tok_regex_modern(void);

/* DF_EUNSUPPORTED: what stands at p[at]. */
int df_tok_regex_refuse(struct df_err *err, const char *p, size_t n, size_t at, const char *what) DF_MUST_CHECK;

#endif
