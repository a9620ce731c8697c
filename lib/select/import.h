/*
 * import.h - a selection that the user made elsewhere: an index of what a list names.
 */
#ifndef DF_SELECT_IMPORT_H
#define DF_SELECT_IMPORT_H

#include "base/err.h"
#include "data/pick.h"
#include "select/select.h"
#include "shard/shard.h"

/*
 * out (DF_SELECTION_INIT; its meta may name the tool) = the rows of the pool that the list names, with all that shaped
 * them in its meta.  Warns of entries that are left out and of ids that occur more than once.  Errors as
 * df_origins_read() and df_pick().
 */
int df_select_import(struct df_selection *out, struct df_set *pool, const struct df_pick_opts *o, struct df_err *err)
    DF_MUST_CHECK;

#endif
