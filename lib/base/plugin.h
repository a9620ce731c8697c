/*
 * plugin.h - what plug-ins with a record of a method have in common: a shared library is loaded, its record found, and
 * the options in it looked at.
 */
#ifndef DF_BASE_PLUGIN_H
#define DF_BASE_PLUGIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/opt.h"

/*
 * A kind of plug-ins.  Their symbol is a struct that begins with `sizes` [n_sizes], a version and sizes of structs, and
 * has a pointer to a record `at` bytes from its start.  A record begins with its name.
 */
struct df_plugin_kind {
	const char *what, *owner;    /* "mixer", "df-mix": for messages */
	const char *symbol, *macro;  /* its name, and what defines it */
	const uint32_t *sizes;
	size_t n_sizes, at;
	bool (*is_ours)(const char *name);                      /* has the program a record of that name? */
	int (*check)(const void *record, struct df_err *err);   /* what of it must be there: DF_EFORMAT */
};
/*
 * *record = that of the shared library at `path`, which stays loaded, checked.  DF_ENOINPUT; DF_EFORMAT: it cannot be
 * loaded, has no such symbol, was compiled for another version, or its record is wrong.
 */
int df_plugin_record(const void **record, const char *path, const struct df_plugin_kind *kind,
    struct df_err *err) DF_MUST_CHECK;
/* A word for the command line: letters, digits, dashes, underscores. */
bool df_plugin_is_word(const char *s);
/* A method's table of options and the struct that it points into: DF_EFORMAT. */
int df_plugin_check_options(const struct df_opt *options, const void *defaults, size_t defaults_size,
    struct df_err *err) DF_MUST_CHECK;

#endif
