/*
 * pick.h - samples that the user names in a list (pick_list.h): by id, by row of the source, or by a column's value.
 */
#ifndef DF_DATA_PICK_H
#define DF_DATA_PICK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "data/chosen.h"

enum df_pick_by {
	DF_PICK_ID,    /* of the pool */
	DF_PICK_ROW,   /* of the dataset, from 0, as the pool records it */
	DF_PICK_COLUMN /* every row whose column has this value */
};
#define DF_PICK_BY_NAMES "id", "row", "column" /* in the order of the enum, for an option's choices */

struct df_pick_opts {
	const char *list; /* "-": standard input */
	enum df_pick_by by;
	const char *column;      /* of the dataset, and the member of a JSON list; DF_PICK_COLUMN only */
	const char *dataset_dir; /* DF_PICK_COLUMN only */
	const char *datasets;    /* the rows and values are of these, comma-separated; NULL: of any */
	bool skip_missing;       /* entries that name no row of the pool are left out and counted */
};

struct df_picked {
	uint64_t *id; /* [n] in the order of the list; the rows of one entry in the order of their ids */
	uint64_t n;
	uint64_t n_entries, n_missing, n_repeated; /* repeated: ids that occur again */
	char list_id[DF_DIGEST_HEX];               /* digest of the list */
};

/*
 * Find them; `origins` are those of the pool, with rows unless by is DF_PICK_ID.  DF_EFORMAT or DF_ERANGE names the
 * entry that is malformed, or that names no row of the pool; DF_EUSAGE for a row number that may be of several
 * datasets.  DF_ELINEAGE and DF_ECONFIG as df_origin_dataset() and df_dataset_check_columns().
 */
int df_pick(struct df_picked *p, const struct df_pick_opts *o, const struct df_origins *origins,
    const struct df_set *pool, struct df_err *err) DF_MUST_CHECK;
void df_picked_release(struct df_picked *p);

#endif
