/* idset.h - which ids of [0,n) have been seen: joins are by id. */
#ifndef DF_SHARD_IDSET_H
#define DF_SHARD_IDSET_H

#include <stdint.h>

#include "base/err.h"

struct df_idset {
	uint64_t *bits;
	uint64_t n, seen;
};
int df_idset_init(struct df_idset *s, uint64_t n, struct df_err *err) DF_MUST_CHECK;
/* DF_EFORMAT names an id that is out of range or was seen before. */
int df_idset_add(
    struct df_idset *s, const uint64_t *ids, uint64_t n, const char *name, struct df_err *err) DF_MUST_CHECK;
/* DF_EFORMAT names the first missing id, and how many are missing. */
int df_idset_check_full(const struct df_idset *s, const char *name, struct df_err *err) DF_MUST_CHECK;
void df_idset_release(struct df_idset *s);

#endif
