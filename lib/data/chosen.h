/*
 * chosen.h - from chosen samples back to the rows of the user's files.
 *
 * An index has ids; the tokens that it chose from (the pool) know dataset and row of each id; the dataset has the
 * record.  Each step is checked by the ids that the files record: a dataset that was changed after the pool was packed
 * is refused.
 */
#ifndef DF_DATA_CHOSEN_H
#define DF_DATA_CHOSEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "data/dataset.h"
#include "shard/shard.h"

/* Where each sample of tokens is from, by id. */
struct df_origins {
	uint64_t n;
	uint64_t *row;    /* [n] in its dataset; NULL: not asked for */
	uint16_t *domain; /* [n] its dataset: into the domains of the tokens; NULL: not asked for, and not recorded */
};
/*
 * Read them; every id is checked.  With rows: DF_EUNSUPPORTED for rows that are packed of several examples, of which
 * only the first is recorded; DF_EFORMAT when the columns are not there.  DF_EFORMAT where a domain is out of range.
 */
int df_origins_read(struct df_origins *o, struct df_set *pool, bool with_rows, struct df_err *err) DF_MUST_CHECK;
void df_origins_release(struct df_origins *o);

/*
 * Open the dataset of domain d of the pool, as <dataset_dir>/dataset_info.json describes it, and find its records.
 * DF_ELINEAGE when it is not the one that the pool was packed from.
 */
int df_origin_dataset(struct df_dataset **out, const struct df_dataset_info *info, const struct df_set *pool, size_t d,
    struct df_err *err) DF_MUST_CHECK;

/* wanted [n_domains of m] = is the domain in this comma-separated list?  NULL: all are.  DF_EUSAGE for another name. */
int df_origin_wanted(const char *list, const struct df_meta *m, bool *wanted, struct df_err *err) DF_MUST_CHECK;

struct df_chosen {
	struct df_dataset **ds; /* [n_ds] by domain of the pool; NULL: none of its rows is here */
	size_t n_ds;
	uint64_t n;
	uint64_t *row;    /* [n] in its dataset, in the order of the index */
	uint16_t *domain; /* [n] into ds */
	uint64_t *rank;   /* [n] place in the index, from 0 */
	float *score;     /* [n], or NULL: the index has none */
};
#define DF_CHOSEN_INIT { .ds = NULL }
/*
 * The rows that an index chose from the pool, in its order, as often as it has them; or all rows of tokens, when
 * index == pool.  `datasets`: only rows of these, comma-separated; NULL: of all.  Errors: those above, DF_ELINEAGE for
 * an index of other tokens, DF_ERANGE for an id that the pool does not have, DF_EFORMAT when nothing is chosen.
 */
int df_chosen_open(struct df_chosen *c, struct df_set *index, struct df_set *pool, const char *dataset_dir,
    const char *datasets, struct df_err *err) DF_MUST_CHECK;
void df_chosen_close(struct df_chosen *c);

#endif
