/*
 * kin.h - the files around an artefact, by their ids.
 *
 * A file knows the ids of its inputs, not their names, as names change.  So the ids of the files in the same directory
 * (and of those that the user names) are read; those of the shards of one family are combined.
 */
#ifndef DF_SHOW_KIN_H
#define DF_SHOW_KIN_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "shard/shard.h"

struct df_kin_file {
	char *path; /* of a family of shards: BASE.h5 */
	struct df_meta meta;
	uint64_t rows;
	uint32_t shards; /* how many files */
	uint8_t *seen;   /* (private) [n] the shards that were read */
	uint32_t n;      /* (private) of how many; 0: it is no family */
};

struct df_kin {
	struct df_kin_file *v;
	size_t n, cap;
};
#define DF_KIN_INIT { NULL, 0, 0 }

/* Note a file; one that is not an artefact is skipped. */
int df_kin_add(struct df_kin *k, const char *path, struct df_err *err) DF_MUST_CHECK;
/* Note the artefacts in the directory of `path`. */
int df_kin_add_beside(struct df_kin *k, const char *path, struct df_err *err) DF_MUST_CHECK;
/* Both: the files themselves first, then those beside them. */
int df_kin_add_all(struct df_kin *k, const char *const *paths, size_t n, struct df_err *err) DF_MUST_CHECK;
/* The file with this id, or NULL.  Borrowed. */
const struct df_kin_file *df_kin_find(const struct df_kin *k, const char *id);
/*
 * The tokens that an index (or scores, ..) is of, or NULL: those with the id that it records, and of several with the
 * same rows those of the same datasets; when it records none, the first tokens among the named files.  Borrowed.
 */
const struct df_kin_file *df_kin_tokens(
    const struct df_kin *k, const struct df_meta *of, const char *const *named, size_t n);
/*
 * Open the tokens that an index (or scores, projections, ..) is of: those with the id that it records or, when it
 * records none, what the user named.  DF_ENOINPUT when they are not there.
 */
int df_kin_open_tokens(struct df_set **out, struct df_set *of, const struct df_kin *k, const char *const *named,
    size_t n, struct df_err *err) DF_MUST_CHECK;
/* The same, found among the named files, of which the first is `of` itself, and those beside them. */
int df_kin_open_pool(struct df_set **out, struct df_set *of, const char *const *named, size_t n, struct df_err *err)
    DF_MUST_CHECK;
void df_kin_release(struct df_kin *k);

#endif
