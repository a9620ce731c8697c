/*
 * mem.h - sizes that cannot overflow, allocations that report, and arenas.
 *
 * Every product of sizes that come from outside goes through df_size_mul().
 */
#ifndef DF_BASE_MEM_H
#define DF_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#ifdef __cplusplus
extern "C" {
#endif

/* *out = a * b (a + b).  DF_ERANGE, with `what` in the message, when it overflows. */
int df_size_mul(size_t a, size_t b, size_t *out, const char *what, struct df_err *err) DF_MUST_CHECK;
int df_size_add(size_t a, size_t b, size_t *out, const char *what, struct df_err *err) DF_MUST_CHECK;

/*
 * *out (a pointer of any type) = n * size zeroed bytes, 64-byte aligned; free()
 * releases it.  n * size is checked; n == 0 gives a valid pointer.  DF_ENOMEM.
 */
int df_alloc(void *out, size_t n, size_t size, const char *what, struct df_err *err) DF_MUST_CHECK;

/*
 * *out = n zeroed bytes in pages of their own, n > 0; df_pages_free(*out, n) releases them.  For tensors of many
 * megabytes: no page is touched before its first use, and huge pages are asked for, which the kernel fills many times
 * faster than small ones.  DF_ENOMEM.
 */
int df_pages_alloc(void *out, size_t n, const char *what, struct df_err *err) DF_MUST_CHECK;
void df_pages_free(void *pages, size_t n); /* accepts NULL */

/*
 * Grow the array *ptr (free()able, *cap elements of `size` bytes) to hold at
 * least `need` elements, geometrically.  On failure the array is unchanged.
 */
int df_grow(void *ptr, size_t *cap, size_t need, size_t size, const char *what, struct df_err *err) DF_MUST_CHECK;

/* *out = a copy of s (of n bytes, NUL added).  free() releases it. */
int df_strdup(char **out, const char *s, struct df_err *err) DF_MUST_CHECK;
int df_strndup(char **out, const char *s, size_t n, struct df_err *err) DF_MUST_CHECK;
/* *out = printf of fmt.  free() releases it. */
int df_asprintf(char **out, struct df_err *err, const char *fmt, ...) DF_PRINTF(3, 4) DF_MUST_CHECK;

/*
 * Bytes that this process can still use before the kernel swaps or kills, as the kernel estimates them: the smaller
 * of what the machine has and what the control group allows.  SIZE_MAX where the system does not say.
 */
size_t df_mem_available(void);

/*
 * An arena: memory of one batch, released at once.  Blocks are 64-byte
 * aligned, zeroed on request only, and redzoned under ASan.  Not thread-safe: one arena
 * belongs to one batch or one thread.  After df_arena_reset() its memory is
 * reused, so a steady state allocates nothing.
 */
struct df_arena {
	struct df_arena_chunk *head; /* (private) */
	size_t used, peak;           /* bytes, for reports */
};
#define DF_ARENA_INIT { NULL, 0, 0 }
int df_arena_alloc(struct df_arena *a, void *out, size_t n, size_t size, const char *what, struct df_err *err)
    DF_MUST_CHECK;
void df_arena_reset(struct df_arena *a);
void df_arena_release(struct df_arena *a);

#ifdef __cplusplus
}
#endif
#endif
