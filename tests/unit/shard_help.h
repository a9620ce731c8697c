/*
 * shard_help.h - artefacts whose content is a function of the sample id, so that any part can be checked.
 */
#ifndef DF_TESTS_SHARD_HELP_H
#define DF_TESTS_SHARD_HELP_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/file.h"
#include "shard/shard.h"

/* The call, which names its error argument `err`, must succeed. */
#define OK(call)                                                         \
	do {                                                             \
		struct df_err e_ = DF_ERR_INIT, *err = &e_;              \
		int rc_ = (call);                                        \
		if (rc_ != DF_OK)                                        \
			fail_msg("%s: code %d: %s", #call, rc_, e_.msg); \
		(void)err;                                               \
	} while (0)

/* DIR/name, in one of a few static buffers; DIR is the test's scratch directory. */
const char *at(const char *name);
int scratch_make(void **state);
int scratch_remove(void **state);

extern const enum df_col token_cols[5];
uint64_t row_length(uint64_t id);
void make_tokens(struct df_batch *b, uint64_t first, uint64_t n); /* rows [first, first+n) */
void token_meta(struct df_meta *m);
/* Rows [first, end), put in batches of `step`. */
void write_tokens(const char *path, uint64_t first, uint64_t end, uint64_t step, enum df_compress how,
    char id[DF_DIGEST_HEX]);
void check_batch(const struct df_batch *got, uint64_t first, uint64_t n);
void check_tokens(const char *path, uint64_t n, uint64_t step); /* all of them, and some in no order */
void same_bytes(const char *a, const char *b);

#endif
