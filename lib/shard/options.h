/*
 * options.h - options of a program as parameters of what it makes.
 */
#ifndef DF_SHARD_OPTIONS_H
#define DF_SHARD_OPTIONS_H

#include "base/err.h"
#include "base/opt.h"
#include "shard/shard.h"

/*
 * Set the options called `names`, with spaces between them, in that order: "cutoff-len seed" sets the parameters
 * cutoff_len and seed to what the table's values are now.  A text that is not given and an empty list set nothing; the
 * words of a list are joined by commas.  "max-samples?" sets nothing while it is 0 (off, the first of its choices).
 */
int df_meta_set_opts(
    struct df_meta *m, const struct df_opt *opts, const char *names, struct df_err *err) DF_MUST_CHECK;

#endif
