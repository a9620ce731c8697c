/*
 * rt.cc - one emulated device behind rt.h.
 */
#include "backend/cuda/rt.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/cuda/emu/emu.h"

#define CANARY 0xa5

struct region {
	char *base, *data; /* the mapping: guard, pages, guard; the allocation */
	size_t mapped, nbytes;
	struct region *next;
};
struct rt_stream {
	int unused;
};
struct rt_event {
	int unused;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct region *regions;
static size_t in_use;
static struct df_err failure; /* of a launch, not reported so far */

int
rt_count(char *why, size_t size)
{
	if (size)
		why[0] = '\0';
	return 1;
}

static size_t
memory_bytes(void)
{
	return (size_t)sysconf(_SC_PHYS_PAGES) / 2 * (size_t)sysconf(_SC_PAGESIZE);
}

int
rt_device(int number, struct rt_device *out, struct df_err *err)
{
	if (number != 0)
		return df_fail(err, DF_EDEVICE, "there is no device %d; the emulator has one", number);
	memset(out, 0, sizeof(*out));
	snprintf(out->name, sizeof(out->name), "emulator");
	out->major = 9;
	out->n_processors = 4;
	out->shared_bytes = EMU_MOST_SHARED;
	out->l2_bytes = (size_t)32 << 20;
	out->memory_bytes = memory_bytes();
	out->emulated = true;
	return DF_OK;
}

int
rt_use(int number, struct df_err *err)
{
	return number == 0 ? DF_OK : df_fail(err, DF_EDEVICE, "there is no device %d; the emulator has one", number);
}

int
rt_memory(size_t *unused, struct df_err *err)
{
	(void)err;
	pthread_mutex_lock(&lock);
	*unused = memory_bytes() > in_use ? memory_bytes() - in_use : 0;
	pthread_mutex_unlock(&lock);
	return DF_OK;
}

/* Between guard pages, as near to the end as alignment allows, NaN. */
int
rt_malloc(void **out, size_t nbytes, struct df_err *err)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), size = nbytes ? nbytes : 1;
	struct region *r = static_cast<struct region *>(calloc(1, sizeof(*r)));
	const size_t padded = (size + 255) / 256 * 256, body = (padded + page - 1) / page * page;
	void *base;

	if (!r || size > memory_bytes() ||
	    (base = mmap(NULL, body + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) == MAP_FAILED) {
		free(r);
		return df_fail(err, DF_ENOMEM, "the device has no memory for %zu bytes", nbytes);
	}
	r->base = static_cast<char *>(base);
	r->mapped = body + 2 * page;
	r->nbytes = size;
	r->data = r->base + page + body - padded;
	mprotect(r->base, page, PROT_NONE);
	mprotect(r->base + page + body, page, PROT_NONE);
	memset(r->base + page, CANARY, body);
	memset(r->data, 0xff, size);
	pthread_mutex_lock(&lock);
	r->next = regions;
	regions = r;
	in_use += size;
	pthread_mutex_unlock(&lock);
	*out = r->data;
	return DF_OK;
}

void
rt_free(void *p)
{
	struct region **at, *r;

	if (!p)
		return;
	pthread_mutex_lock(&lock);
	for (at = &regions; *at && (*at)->data != p; at = &(*at)->next)
		;
	r = *at;
	if (!r)
		abort();
	*at = r->next;
	in_use -= r->nbytes;
	pthread_mutex_unlock(&lock);
	munmap(r->base, r->mapped);
	free(r);
}

int
rt_malloc_pinned(void **out, size_t nbytes, struct df_err *err)
{
	if (posix_memalign(out, 256, nbytes ? nbytes : 1) != 0)
		return df_fail(err, DF_ENOMEM, "out of pinned memory for %zu bytes", nbytes);
	memset(*out, 0xff, nbytes);
	return DF_OK;
}

void
rt_free_pinned(void *p)
{
	free(p);
}

static void
copy_rows(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t row, size_t n)
{
	for (size_t i = 0; i < n; i++)
		memcpy((char *)to + i * to_pitch, (const char *)from + i * from_pitch, row);
}

int
rt_to_device(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t row, size_t n, rt_stream_t s,
    struct df_err *err)
{
	(void)s;
	(void)err;
	copy_rows(to, to_pitch, from, from_pitch, row, n);
	return DF_OK;
}

int
rt_to_host(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t row, size_t n, rt_stream_t s,
    struct df_err *err)
{
	(void)s;
	(void)err;
	copy_rows(to, to_pitch, from, from_pitch, row, n);
	return DF_OK;
}

static int
report(struct df_err *err)
{
	int rc;

	pthread_mutex_lock(&lock);
	rc = failure.code;
	if (rc != DF_OK && err)
		*err = failure;
	failure.code = DF_OK;
	pthread_mutex_unlock(&lock);
	return rc;
}

int
rt_stream_new(rt_stream_t *out, struct df_err *err)
{
	*out = static_cast<rt_stream_t>(calloc(1, sizeof(**out)));
	return *out ? DF_OK : df_fail(err, DF_ENOMEM, "out of memory for a stream");
}

void
rt_stream_free(rt_stream_t s)
{
	free(s);
}

int
rt_stream_wait(rt_stream_t s, struct df_err *err)
{
	(void)s;
	return report(err);
}

int
rt_event_new(rt_event_t *out, struct df_err *err)
{
	*out = static_cast<rt_event_t>(calloc(1, sizeof(**out)));
	return *out ? DF_OK : df_fail(err, DF_ENOMEM, "out of memory for an event");
}

void
rt_event_free(rt_event_t e)
{
	free(e);
}

int
rt_event_record(rt_event_t e, rt_stream_t s, struct df_err *err)
{
	(void)e;
	(void)s;
	(void)err;
	return DF_OK;
}

int
rt_event_wait(rt_event_t e, struct df_err *err)
{
	(void)e;
	return report(err);
}

int
rt_stream_after(rt_stream_t s, rt_event_t e, struct df_err *err)
{
	(void)s;
	(void)e;
	(void)err;
	return DF_OK;
}

int
rt_last_error(const char *what, struct df_err *err)
{
	const int rc = report(err);

	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", what);
	return rc;
}

void
emu_enqueue(const emu_launch &l, void *stream)
{
	struct df_err err = DF_ERR_INIT;
	int rc;

	(void)stream;
	rc = emu_check_launch(&l, &err);
	if (rc == DF_OK)
		rc = emu_run(&l, &err);
	l.drop(l.args);
	pthread_mutex_lock(&lock);
	if (rc != DF_OK && failure.code == DF_OK)
		failure = err;
	pthread_mutex_unlock(&lock);
}
