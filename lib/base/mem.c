/*
 * mem.c - checked sizes, reporting allocations, arenas.
 *
 * An arena is a list of chunks, newest first; blocks are taken from the newest:
 *
 *     chunk: | header 64 | block | block |....free....|
 *             next, size, fill
 *
 * Reset keeps the memory.  If a batch needed several chunks, reset replaces them by one of their total size, so the
 * next batch of that size fits into a single chunk and allocates nothing.  Under ASan every block is followed by a
 * poisoned gap, and free space is poisoned, so an overrun inside an arena is reported like an overrun of a
 * malloc'ed block.
 */
#include "base/mem.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define REDZONE 64
#else
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define REDZONE                           0
#endif

#define ALIGN     64
#define CHUNK_MIN ((size_t)1 << 20)

int
df_size_mul(size_t a, size_t b, size_t *out, const char *what, struct df_err *err)
{
	if (__builtin_mul_overflow(a, b, out))
		return df_fail(err, DF_ERANGE, "%s: %zu x %zu is too large", what, a, b);
	return DF_OK;
}

int
df_size_add(size_t a, size_t b, size_t *out, const char *what, struct df_err *err)
{
	if (__builtin_add_overflow(a, b, out))
		return df_fail(err, DF_ERANGE, "%s: %zu + %zu is too large", what, a, b);
	return DF_OK;
}

/* *out = n * size rounded up to the alignment, at least one unit. */
static int
padded_size(size_t n, size_t size, size_t *out, const char *what, struct df_err *err)
{
	size_t bytes;
	int rc;

	if ((rc = df_size_mul(n, size, &bytes, what, err)) != DF_OK)
		return rc;
	if (bytes > PTRDIFF_MAX - 4096)
		return df_fail(err, DF_ERANGE, "%s: %zu bytes are more than memory can hold", what, bytes);
	*out = bytes == 0 ? ALIGN : (bytes + ALIGN - 1) / ALIGN * ALIGN;
	return DF_OK;
}

int
df_alloc(void *out, size_t n, size_t size, const char *what, struct df_err *err)
{
	size_t bytes;
	void *p;
	int rc;

	if ((rc = padded_size(n, size, &bytes, what, err)) != DF_OK)
		return rc;
	p = aligned_alloc(ALIGN, bytes);
	if (p == NULL)
		return df_fail(err, DF_ENOMEM, "%s: out of memory (%zu bytes)", what, bytes);
	memset(p, 0, bytes);
	memcpy(out, &p, sizeof(p));
	return DF_OK;
}

int
df_pages_alloc(void *out, size_t n, const char *what, struct df_err *err)
{
	void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return df_fail(err, DF_ENOMEM, "%s: out of memory (%zu bytes)", what, n);
	madvise(p, n, MADV_HUGEPAGE); /* it is slower without, no less right */
	memcpy(out, &p, sizeof(p));
	return DF_OK;
}

void
df_pages_free(void *pages, size_t n)
{
	if (pages != NULL)
		munmap(pages, n);
}

int
df_grow(void *ptr, size_t *cap, size_t need, size_t size, const char *what, struct df_err *err)
{
	size_t want = *cap, bytes;
	void *p;
	int rc;

	if (need <= *cap)
		return DF_OK;
	if (__builtin_add_overflow(want, want / 2, &want) || want < need)
		want = need;
	if (want < 8)
		want = 8;
	if ((rc = df_size_mul(want, size, &bytes, what, err)) != DF_OK)
		return rc;
	memcpy(&p, ptr, sizeof(p));
	p = bytes > PTRDIFF_MAX ? NULL : realloc(p, bytes);
	if (p == NULL)
		return df_fail(err, DF_ENOMEM, "%s: out of memory (%zu bytes)", what, bytes);
	memcpy(ptr, &p, sizeof(p));
	*cap = want;
	return DF_OK;
}

int
df_strndup(char **out, const char *s, size_t n, struct df_err *err)
{
	char *p = n < PTRDIFF_MAX ? malloc(n + 1) : NULL;

	if (p == NULL)
		return df_fail(err, DF_ENOMEM, "out of memory for a text of %zu bytes", n);
	if (n > 0)
		memcpy(p, s, n);
	p[n] = '\0';
	*out = p;
	return DF_OK;
}

int
df_strdup(char **out, const char *s, struct df_err *err)
{
	return df_strndup(out, s, strlen(s), err);
}

int
df_asprintf(char **out, struct df_err *err, const char *fmt, ...)
{
	va_list ap;
	char *p;
	int n;

	va_start(ap, fmt);
	n = vasprintf(&p, fmt, ap);
	va_end(ap);
	if (n < 0)
		return df_fail(err, DF_ENOMEM, "out of memory for a text");
	*out = p;
	return DF_OK;
}

/* The number after `key` at the start of a line of a small file (of its only line, when key is ""), or `dflt`. */
static size_t
file_number(const char *path, const char *key, size_t dflt)
{
	FILE *f = fopen(path, "re");
	const size_t n = strlen(key);
	unsigned long long x;
	char line[256];

	if (f == NULL)
		return dflt;
	while (fgets(line, sizeof(line), f) != NULL) {
		if (strncmp(line, key, n) == 0 && sscanf(line + n, "%llu", &x) == 1) {
			dflt = x < SIZE_MAX ? (size_t)x : SIZE_MAX;
			break;
		}
	}
	fclose(f);
	return dflt;
}

/*
 * What a control group still allows: its limit minus the pages that the kernel cannot drop (it can drop those of
 * mapped files).
 */
static size_t
group_available(const char *limit_path, const char *stat_path, const char *used_key)
{
	const size_t limit = file_number(limit_path, "", SIZE_MAX), used = file_number(stat_path, used_key, 0);

	return used < limit ? limit - used : 0;
}

size_t
df_mem_available(void)
{
	const size_t kib = file_number("/proc/meminfo", "MemAvailable:", SIZE_MAX);
	const size_t groups[] = { group_available("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.stat", "anon"),
		group_available(
		    "/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.stat", "total_rss") };
	size_t most = kib < SIZE_MAX / 1024 ? kib * 1024 : SIZE_MAX;

	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		most = groups[i] < most ? groups[i] : most;
	return most;
}

struct df_arena_chunk {
	struct df_arena_chunk *next;
	size_t size; /* bytes after the header */
	size_t fill;
};

static char *
chunk_data(struct df_arena_chunk *c)
{
	return (char *)c + ALIGN;
}

static struct df_arena_chunk *
chunk_new(size_t size)
{
	struct df_arena_chunk *c = aligned_alloc(ALIGN, ALIGN + size);

	if (c == NULL)
		return NULL;
	c->next = NULL;
	c->size = size;
	c->fill = 0;
	ASAN_POISON_MEMORY_REGION(chunk_data(c), size);
	return c;
}

static void
chunk_free(struct df_arena_chunk *c)
{
	ASAN_UNPOISON_MEMORY_REGION(chunk_data(c), c->size);
	free(c);
}

int
df_arena_alloc(struct df_arena *a, void *out, size_t n, size_t size, const char *what, struct df_err *err)
{
	struct df_arena_chunk *c = a->head;
	size_t bytes, step;
	char *p;
	int rc;

	if ((rc = padded_size(n, size, &bytes, what, err)) != DF_OK)
		return rc;
	step = bytes + REDZONE;
	if (c == NULL || c->size - c->fill < step) {
		size_t want = c ? c->size : CHUNK_MIN / 2;

		/* Each chunk is twice as large as the last, so a batch of any size needs few. */
		want = want > PTRDIFF_MAX / 4 || step > want * 2 ? step : want * 2;
		c = chunk_new(want);
		if (c == NULL && want > step)
			c = chunk_new(step);
		if (c == NULL)
			return df_fail(err, DF_ENOMEM, "%s: out of memory (%zu bytes)", what, bytes);
		c->next = a->head;
		a->head = c;
	}
	p = chunk_data(c) + c->fill;
	c->fill += step;
	/* Only what was asked for: the padding up to the alignment stays poisoned. */
	ASAN_UNPOISON_MEMORY_REGION(p, n * size);
	a->used += step;
	if (a->used > a->peak)
		a->peak = a->used;
	memcpy(out, &p, sizeof(p));
	return DF_OK;
}

void
df_arena_reset(struct df_arena *a)
{
	struct df_arena_chunk *c = a->head;
	size_t total = 0;

	a->used = 0;
	if (c == NULL)
		return;
	if (c->next == NULL) {
		c->fill = 0;
		ASAN_POISON_MEMORY_REGION(chunk_data(c), c->size);
		return;
	}
	for (; c; c = c->next)
		total += c->size;
	while ((c = a->head) != NULL) {
		a->head = c->next;
		chunk_free(c);
	}
	/* If this fails the next df_arena_alloc() reports it. */
	a->head = chunk_new(total);
}

void
df_arena_release(struct df_arena *a)
{
	struct df_arena_chunk *c;

	while ((c = a->head) != NULL) {
		a->head = c->next;
		chunk_free(c);
	}
	a->used = 0;
}
