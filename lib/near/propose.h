/*
 * propose.h - for rows of a set of points, the earlier points that may be within a limit: what exact arithmetic still
 * has to decide.  A few too many are proposed, none is missed.
 */
#ifndef DF_NEAR_PROPOSE_H
#define DF_NEAR_PROPOSE_H

#include "near/near.h"

struct df_propose;

enum { DF_PROPOSE_WORD = 32 }; /* points per word of bits */

/*
 * For all rows of points, in panels of n_panel (a multiple of DF_PROPOSE_WORD), in order.  valid [n], borrowed: points
 * whose numbers are finite.  How it is done follows from a sample of the pairs: screen.h, products of floats on
 * near->be, or not at all.  df_propose_free() frees it, also after an error.
 */
int df_propose_new(struct df_propose **out, const struct df_near *near, enum df_metric metric,
    const struct df_points *points, const uint8_t *valid, double limit, uint64_t n_panel, struct df_err *err)
    DF_MUST_CHECK;
void df_propose_free(struct df_propose *p); /* accepts NULL */
/*
 * The panel that begins at row `first`, n rows: bit j % 32 of bits[i * stride + j / 32] is set where points first + i
 * and j < first + i may be within the limit.  Words after the row's own are not written, or of no meaning.
 */
int df_propose_panel(struct df_propose *p, uint64_t first, uint64_t n, uint32_t *bits, uint64_t stride,
    struct df_err *err) DF_MUST_CHECK;

/* For tests and measurements: what a new one uses instead of its own choice.  Set by one thread. */
enum df_propose_way { DF_PROPOSE_CHOOSE, DF_PROPOSE_ALL, DF_PROPOSE_PRODUCTS, DF_PROPOSE_SCREEN };
void df_propose_force(enum df_propose_way way, const char *kernel);
/* What it uses, in words: "screen (AMX, 256 of 1024 dimensions first)". */
void df_propose_describe(const struct df_propose *p, char *text, size_t size);

#endif
