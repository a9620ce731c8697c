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
 * *out = the symbol `name` of the shared library at `path`, which stays loaded.  It begins with ours [n], a version and
 * sizes of structs.  `macro` is what defines it, for the message.  DF_ENOINPUT; DF_EFORMAT: it cannot be loaded, has no
 * such symbol, or was compiled for another version.
 */
int df_plugin_open(const void **out, const char *path, const char *name, const char *macro, const uint32_t *ours,
    size_t n, struct df_err *err) DF_MUST_CHECK;
/* A word for the command line: letters, digits, dashes, underscores. */
bool df_plugin_is_word(const char *s);
/* A method's table of options and the struct that it points into: DF_EFORMAT. */
int df_plugin_check_options(const struct df_opt *options, const void *defaults, size_t defaults_size,
    struct df_err *err) DF_MUST_CHECK;

#endif
