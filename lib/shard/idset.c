/*
 * idset.c - which ids have been seen: one bit each.
 */
#include "shard/shard_priv.h"

#include <stdlib.h>

int
df_idset_init(struct df_idset *s, uint64_t n, struct df_err *err)
{
	uint64_t *bits = NULL;
	int rc = df_alloc(&bits, (size_t)(n / 64 + 1), sizeof(*bits), "a set of ids", err);

	*s = (struct df_idset){ bits, n, 0 };
	return rc;
}

/* Are the first 64 of n ids those of one word, in order, and none of them seen? */
static bool
fills_word(const struct df_idset *s, const uint64_t *ids, uint64_t n)
{
	const uint64_t first = n >= 64 ? ids[0] : 1;
	uint64_t wrong = first % 64;

	if (wrong || first >= s->n || s->n - first < 64)
		return false;
	for (uint64_t i = 0; i < 64; i++)
		wrong |= ids[i] ^ (first + i);
	return !wrong && !s->bits[first / 64];
}

int
df_idset_add(struct df_idset *s, const uint64_t *ids, uint64_t n, const char *name, struct df_err *err)
{
	for (uint64_t i = 0; i < n; i++) {
		uint64_t id = ids[i], bit = (uint64_t)1 << (id % 64);

		if (fills_word(s, ids + i, n - i)) {
			s->bits[id / 64] = ~(uint64_t)0;
			s->seen += 64;
			i += 63;
			continue;
		}
		if (id >= s->n)
			return df_fail(err, DF_EFORMAT, "%s: sample id %llu, but there are %llu samples (0 to %llu)",
			    name, (unsigned long long)id, (unsigned long long)s->n,
			    (unsigned long long)(s->n ? s->n - 1 : 0));
		if (s->bits[id / 64] & bit)
			return df_fail(
			    err, DF_EFORMAT, "%s: sample id %llu occurs twice", name, (unsigned long long)id);
		s->bits[id / 64] |= bit;
		s->seen++;
	}
	return DF_OK;
}

int
df_idset_check_full(const struct df_idset *s, const char *name, struct df_err *err)
{
	if (s->seen == s->n)
		return DF_OK;
	for (uint64_t id = 0; id < s->n; id++)
		if (!(s->bits[id / 64] >> (id % 64) & 1))
			return df_fail(err, DF_EFORMAT, "%s: sample id %llu is missing (%llu of %llu samples are)",
			    name, (unsigned long long)id, (unsigned long long)(s->n - s->seen),
			    (unsigned long long)s->n);
	return DF_OK;
}

void
df_idset_release(struct df_idset *s)
{
	free(s->bits);
	*s = (struct df_idset){ NULL, 0, 0 };
}
