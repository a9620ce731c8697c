/*
 * rt.cc - one emulated device behind rt.h.
 *
 * What is enqueued waits in its stream until somebody waits for it: as late as the rules of CUDA allow, and in an order
 * between streams that only events hold (emu.h).  Device memory is closed except while work runs.
 *
 *        guard    slack       nbytes, 256-byte aligned       slack     guard
 *      | no page | 0xa5...  | data, NaN at first           | 0xa5... | no page |
 *
 * One lock for all of it: work runs while it is held, so threads of the host that use the device wait for each other.
 */
#include "backend/cuda/rt.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/cuda/emu/emu.h"
#include "backend/cuda/emu/sanitize.h"

#define CANARY   0xa5
#define NAN_BYTE 0xff

/* A device's allocation, or one of pinned memory. */
struct region {
	char *base; /* the mapping: guard, pages, guard; pinned: what is free()d */
	char *data;
	size_t mapped, nbytes;
	struct region *next;
};

/* An event as it was recorded once; who waits for it keeps it when the event is recorded again. */
struct mark {
	unsigned n_users;
	bool done;
};
struct rt_event {
	struct mark *mark; /* NULL: never recorded, which is as good as done */
};

enum what { LAUNCH, TO_DEVICE, TO_HOST, RECORD, AFTER };
struct rows {
	char *to;
	const char *from;
	size_t to_pitch, from_pitch, row, n;
};
struct task {
	enum what what;
	struct emu_launch launch;
	struct rows rows;
	bool checked;  /* of a copy: the host's side must not change before it runs */
	uint64_t hash; /* of the host's side */
	struct mark *mark;
	struct task *next;
};
struct rt_stream {
	struct task *first, **end;
	struct rt_stream *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* All under the lock. */
static struct region *regions, *pinned;
static struct rt_stream *streams;
static struct rt_stream null_stream = { NULL, &null_stream.first, NULL };
static struct emu_random order;
static size_t in_use;
static struct df_err failure; /* not reported so far */

/* ---- the device -------------------------------------------------------------------------------------------------- */

static size_t
knob(const char *name, size_t otherwise)
{
	const char *s = getenv(name);

	return s && *s ? strtoull(s, NULL, 0) : otherwise;
}

static size_t
memory_bytes(void)
{
	return knob("DF_EMU_MEMORY", (size_t)sysconf(_SC_PHYS_PAGES) / 2 * (size_t)sysconf(_SC_PAGESIZE));
}

int
rt_count(char *why, size_t size)
{
	if (size)
		why[0] = '\0';
	return 1;
}

int
rt_use(int number, struct df_err *err)
{
	if (number != 0)
		return df_fail(err, DF_EDEVICE, "there is no device %d: the emulator has one", number);
	return DF_OK;
}

int
rt_device(int number, struct rt_device *out, struct df_err *err)
{
	const int arch = emu_arch(), rc = rt_use(number, err);

	if (rc != DF_OK)
		return rc;
	memset(out, 0, sizeof(*out));
	snprintf(out->name, sizeof(out->name), "emulator");
	out->major = arch / 10;
	out->minor = arch % 10;
	out->n_processors = 4;
	out->shared_bytes = emu_most_shared();
	out->l2_bytes = (size_t)32 << 20;
	out->memory_bytes = memory_bytes();
	out->emulated = true;
	return DF_OK;
}

int
rt_memory(size_t *unused, struct df_err *err)
{
	const size_t all = memory_bytes();

	(void)err;
	pthread_mutex_lock(&lock);
	*unused = all > in_use ? all - in_use : 0;
	pthread_mutex_unlock(&lock);
	return DF_OK;
}

/* The first failure is kept until somebody asks. */
static void
fail(const struct df_err *err)
{
	if (failure.code == DF_OK)
		failure = *err;
}

static int
report(struct df_err *err)
{
	const int rc = failure.code;

	if (rc != DF_OK && err)
		*err = failure;
	failure.code = DF_OK;
	return rc;
}

/* ---- memory that is closed --------------------------------------------------------------------------------------- */

static size_t
page_size(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

static void
protect(const struct region *r, int how)
{
	if (mprotect(r->base + page_size(), r->mapped - 2 * page_size(), how) != 0)
		abort();
}

static void
open_memory(void)
{
	for (const struct region *r = regions; r; r = r->next)
		protect(r, PROT_READ | PROT_WRITE);
}

static bool
is_canary(const char *from, const char *to)
{
	for (; from < to; from++)
		if (*from != (char)CANARY)
			return false;
	return true;
}

/* Find what was written around the allocations, and close them. */
static void
close_memory(void)
{
	const size_t page = page_size();

	for (const struct region *r = regions; r; r = r->next) {
		struct df_err err = DF_ERR_INIT;

		san_open(r->base + page, r->mapped - 2 * page);
		if (!is_canary(r->base + page, r->data) ||
		    !is_canary(r->data + r->nbytes, r->base + r->mapped - page)) {
			df_fail(&err, DF_EDEVICE, "bytes beside an allocation of %zu bytes of the device were written",
			    r->nbytes);
			fail(&err);
			memset(r->base + page, CANARY, (size_t)(r->data - r->base) - page);
			memset(r->data + r->nbytes, CANARY, (size_t)(r->base + r->mapped - page - r->data) - r->nbytes);
		}
		san_close(r->base + page, (size_t)(r->data - r->base) - page);
		san_close(r->data + r->nbytes, (size_t)(r->base + r->mapped - page - r->data) - r->nbytes);
		protect(r, PROT_NONE);
	}
}

/* Say what the address of a fault is, before the process dies of it. */
static void
say_fault(int sig, siginfo_t *info, void *context)
{
	const char *at = static_cast<const char *>(info->si_addr);
	char text[256] = "";

	(void)context;
	/* without the lock: this thread may have it, and nothing comes after this */
	for (const struct region *r = regions; r && !text[0]; r = r->next)
		if (at >= r->base && at < r->base + r->mapped)
			snprintf(text, sizeof(text),
			    "%zd bytes after the first of an allocation of %zu bytes of the device",
			    (ssize_t)(at - r->data), r->nbytes);
	if (!text[0])
		snprintf(text, sizeof(text), "address %p", (const void *)at);
	emu_say_fault(text);
	signal(sig, SIG_DFL);
}

/* Where the program has no handler of its own. */
static void
set_handler(void)
{
	static char stack[16384];
	struct sigaction old, act;
	stack_t s;

	if (EMU_ASAN || sigaction(SIGSEGV, NULL, &old) != 0 || old.sa_handler != SIG_DFL)
		return;
	/* fibers have little room; this is the stack of handlers of the thread that came first, which runs most */
	memset(&s, 0, sizeof(s));
	s.ss_sp = stack;
	s.ss_size = sizeof(stack);
	sigaltstack(&s, NULL);
	memset(&act, 0, sizeof(act));
	act.sa_sigaction = say_fault;
	act.sa_flags = SA_SIGINFO | SA_ONSTACK;
	sigaction(SIGSEGV, &act, NULL);
}

int
rt_malloc(void **out, size_t nbytes, struct df_err *err)
{
	const size_t page = page_size(), size = nbytes ? nbytes : 1, all = memory_bytes();
	size_t padded, body;
	struct region *r;
	void *base = MAP_FAILED;

	pthread_mutex_lock(&lock);
	set_handler();
	r = static_cast<struct region *>(calloc(1, sizeof(*r)));
	if (r && size <= all && in_use <= all - size) {
		padded = (size + 255) / 256 * 256;
		body = (padded + page - 1) / page * page;
		base = mmap(NULL, body + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	}
	if (base == MAP_FAILED) {
		free(r);
		pthread_mutex_unlock(&lock);
		return df_fail(err, DF_ENOMEM, "the device has no memory for %zu bytes", nbytes);
	}
	r->base = static_cast<char *>(base);
	r->mapped = body + 2 * page;
	r->nbytes = size;
	r->data = r->base + page + body - padded;
	protect(r, PROT_READ | PROT_WRITE);
	memset(r->base + page, CANARY, body);
	memset(r->data, NAN_BYTE, size);
	san_close(r->base + page, (size_t)(r->data - r->base) - page);
	san_close(r->data + size, padded - size);
	protect(r, PROT_NONE);
	r->next = regions;
	regions = r;
	in_use += size;
	*out = r->data;
	pthread_mutex_unlock(&lock);
	return DF_OK;
}

static struct region *
take_out(struct region **at, const void *data)
{
	struct region *r;

	while (*at && (*at)->data != data)
		at = &(*at)->next;
	if (!*at) {
		fprintf(stderr, "emulator: freed what was not allocated\n");
		abort();
	}
	r = *at;
	*at = r->next;
	return r;
}

static void run_all(void);

/* As CUDA does: all work of the device is done before. */
void
rt_free(void *p)
{
	struct region *r;

	if (!p)
		return;
	pthread_mutex_lock(&lock);
	run_all();
	r = take_out(&regions, p);
	in_use -= r->nbytes;
	san_open(r->base, r->mapped);
	munmap(r->base, r->mapped);
	free(r);
	pthread_mutex_unlock(&lock);
}

int
rt_malloc_pinned(void **out, size_t nbytes, struct df_err *err)
{
	const size_t size = nbytes ? nbytes : 1;
	struct region *r = static_cast<struct region *>(calloc(1, sizeof(*r)));
	void *p = NULL;

	if (!r || posix_memalign(&p, 256, size) != 0) {
		free(r);
		return df_fail(err, DF_ENOMEM, "out of memory for %zu pinned bytes", nbytes);
	}
	memset(p, NAN_BYTE, size);
	r->base = r->data = static_cast<char *>(p);
	r->nbytes = size;
	pthread_mutex_lock(&lock);
	r->next = pinned;
	pinned = r;
	pthread_mutex_unlock(&lock);
	*out = p;
	return DF_OK;
}

void
rt_free_pinned(void *p)
{
	struct region *r;

	if (!p)
		return;
	pthread_mutex_lock(&lock);
	run_all();
	r = take_out(&pinned, p);
	pthread_mutex_unlock(&lock);
	free(r->base);
	free(r);
}

/* ---- tasks ------------------------------------------------------------------------------------------------------- */

static void
release(struct mark *m)
{
	if (m && --m->n_users == 0)
		free(m);
}

static void
copy_rows(const struct rows *c)
{
	for (size_t i = 0; i < c->n; i++)
		memcpy(c->to + i * c->to_pitch, c->from + i * c->from_pitch, c->row);
}

static size_t
span(size_t pitch, size_t row, size_t n)
{
	return n ? (n - 1) * pitch + row : 0;
}

/* FNV-1a, eight bytes at a time where there are eight. */
static uint64_t
hash_rows(const char *p, size_t pitch, size_t row, size_t n)
{
	uint64_t h = 14695981039346656037u;

	for (size_t i = 0; i < n; i++, p += pitch)
		for (size_t j = 0; j < row;) {
			const size_t some = row - j < 8 ? row - j : 8;
			uint64_t v = 0;

			memcpy(&v, p + j, some);
			h = (h ^ v) * 1099511628211u;
			h ^= h >> 29;
			j += some;
		}
	return h;
}

static uint64_t
host_hash(const struct task *t)
{
	const struct rows *c = &t->rows;

	return t->what == TO_DEVICE ? hash_rows(c->from, c->from_pitch, c->row, c->n)
				    : hash_rows(c->to, c->to_pitch, c->row, c->n);
}

/* The device's memory is open. */
static void
run_task(struct task *t)
{
	struct df_err err = DF_ERR_INIT;

	switch (t->what) {
	case LAUNCH:
		if (emu_run(&t->launch, &err) != DF_OK)
			fail(&err);
		t->launch.drop(t->launch.args);
		break;
	case TO_DEVICE:
	case TO_HOST:
		if (t->checked && host_hash(t) != t->hash) {
			df_fail(&err, DF_EDEVICE,
			    t->what == TO_DEVICE
				? "the host changed pinned memory before it was copied to the device"
				: "the host wrote to pinned memory that a copy from the device was on its way to");
			fail(&err);
		}
		copy_rows(&t->rows);
		break;
	case RECORD: t->mark->done = true; break;
	case AFTER: break;
	}
	release(t->mark);
	free(t);
}

static bool
can_run(const struct rt_stream *s)
{
	return s->first && !(s->first->what == AFTER && !s->first->mark->done);
}

static void
run_first(struct rt_stream *s)
{
	struct task *t = s->first;

	s->first = t->next;
	if (!s->first)
		s->end = &s->first;
	run_task(t);
}

/* The i-th stream, the null stream last. */
static struct rt_stream *
stream_of(size_t i)
{
	struct rt_stream *s = streams;

	while (s && i--)
		s = s->next;
	return s ? s : &null_stream;
}

/* A stream whose first task can run: `wanted` itself or, where that waits for another, one of those. */
static struct rt_stream *
next_stream(struct rt_stream *wanted)
{
	size_t n = 1;

	if (emu_seed() != 0) {
		for (const struct rt_stream *s = streams; s; s = s->next)
			n++;
		if (!order.state)
			order.state = emu_seed();
		for (int i = 0; i < 2; i++) { /* any, if luck has it */
			struct rt_stream *s = stream_of(emu_draw(&order, (uint32_t)n));

			if (can_run(s))
				return s;
		}
	}
	while (!can_run(wanted)) { /* what it waits for was enqueued before, so this ends */
		const struct mark *m = wanted->first->mark;
		const struct task *t = NULL;

		for (size_t i = 0; !t; i++) {
			wanted = stream_of(i);
			for (t = wanted->first; t && !(t->what == RECORD && t->mark == m); t = t->next)
				;
			if (!t && wanted == &null_stream)
				abort();
		}
	}
	return wanted;
}

static void
run_stream(struct rt_stream *s)
{
	if (!s->first)
		return;
	open_memory();
	while (s->first)
		run_first(next_stream(s));
	close_memory();
}

static void
run_mark(const struct mark *m)
{
	struct rt_stream *s = NULL;

	if (!m || m->done)
		return;
	open_memory();
	for (size_t i = 0; !m->done; i++) {
		const struct task *t;

		s = stream_of(i);
		for (t = s->first; t && !(t->what == RECORD && t->mark == m); t = t->next)
			;
		while (t && !m->done)
			run_first(next_stream(s));
	}
	close_memory();
}

static void
run_all(void)
{
	for (struct rt_stream *s = streams; s; s = s->next)
		run_stream(s);
	run_stream(&null_stream);
}

static int
add(struct rt_stream *s, const struct task *what, struct df_err *err)
{
	struct task *t = static_cast<struct task *>(malloc(sizeof(*t)));

	if (!t)
		return df_fail(err, DF_ENOMEM, "out of memory for the work of a stream");
	*t = *what;
	t->next = NULL;
	if (t->mark)
		t->mark->n_users++;
	*s->end = t;
	s->end = &t->next;
	if (knob("DF_EMU_NOW", 0))
		run_stream(s);
	return DF_OK;
}

static struct rt_stream *
stream_or_null(void *s)
{
	return s ? static_cast<struct rt_stream *>(s) : &null_stream;
}

void
emu_enqueue(const emu_launch &l, void *stream)
{
	struct df_err err = DF_ERR_INIT;
	struct task t = {};
	int rc;

	t.what = LAUNCH;
	t.launch = l;
	pthread_mutex_lock(&lock);
	rc = emu_check_launch(&l, &err);
	if (rc == DF_OK)
		rc = add(stream_or_null(stream), &t, &err);
	if (rc != DF_OK) {
		fail(&err);
		l.drop(l.args);
	}
	pthread_mutex_unlock(&lock);
}

/* ---- copies ------------------------------------------------------------------------------------------------------ */

static bool
is_pinned(const char *p, size_t n)
{
	for (const struct region *r = pinned; r; r = r->next)
		if (p >= r->data && p + n <= r->data + r->nbytes)
			return true;
	return false;
}

static bool
is_device(const char *p, size_t n)
{
	for (const struct region *r = regions; r; r = r->next)
		if (p >= r->data && p + n <= r->data + r->nbytes)
			return true;
	return false;
}

static const char *
host_side(const struct task *t, size_t *nbytes)
{
	const struct rows *c = &t->rows;

	*nbytes = t->what == TO_DEVICE ? span(c->from_pitch, c->row, c->n) : span(c->to_pitch, c->row, c->n);
	return t->what == TO_DEVICE ? c->from : c->to;
}

/* Does a copy that is enqueued use the same memory of the host?  Then the order of streams says who is first. */
static bool
is_used(const struct task *mine)
{
	size_t n, m;
	const char *p = host_side(mine, &n);

	for (const struct rt_stream *s = streams;; s = s->next) {
		for (const struct task *t = s ? s->first : null_stream.first; t; t = t->next)
			if (t->what == TO_HOST || (t->what == TO_DEVICE && mine->what == TO_HOST)) {
				const char *q = host_side(t, &m);

				if (p < q + m && q < p + n)
					return true;
			}
		if (!s)
			return false;
	}
}

/*
 * From and to pinned memory: later.  Until then the host must not write to it; what is to come is NaN.  Other memory of
 * the host: now, after all that the stream has to do before.
 */
static int
copy(enum what what, const struct rows *c, rt_stream_t stream, struct df_err *err)
{
	struct rt_stream *s = stream_or_null(stream);
	struct task t = {};
	const char *device, *host;
	size_t n, n_host;
	int rc = DF_OK;

	t.what = what;
	t.rows = *c;
	host = host_side(&t, &n_host);
	device = what == TO_DEVICE ? c->to : c->from;
	n = what == TO_DEVICE ? span(c->to_pitch, c->row, c->n) : span(c->from_pitch, c->row, c->n);
	if (!n)
		return DF_OK;
	pthread_mutex_lock(&lock);
	if (!is_device(device, n)) {
		rc = df_fail(err, DF_EDEVICE, "a copy of %zu rows of %zu bytes: not within an allocation of the device",
		    c->n, c->row);
	} else if (c->n > 1 && (c->to_pitch < c->row || c->from_pitch < c->row)) {
		rc = df_fail(err, DF_EDEVICE, "a copy of rows of %zu bytes that lie over each other", c->row);
	} else if (is_pinned(host, n_host)) {
		t.checked = !is_used(&t);
		if (what == TO_HOST && t.checked)
			for (size_t i = 0; i < c->n; i++)
				memset(c->to + i * c->to_pitch, NAN_BYTE, c->row);
		t.hash = t.checked ? host_hash(&t) : 0;
		rc = add(s, &t, err);
	} else {
		run_stream(s);
		open_memory();
		copy_rows(c);
		close_memory();
		rc = report(err);
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

int
rt_to_device(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t row, size_t n, rt_stream_t s,
    struct df_err *err)
{
	const struct rows c = { static_cast<char *>(to), static_cast<const char *>(from), to_pitch, from_pitch, row,
		n };

	return copy(TO_DEVICE, &c, s, err);
}

int
rt_to_host(void *to, size_t to_pitch, const void *from, size_t from_pitch, size_t row, size_t n, rt_stream_t s,
    struct df_err *err)
{
	const struct rows c = { static_cast<char *>(to), static_cast<const char *>(from), to_pitch, from_pitch, row,
		n };

	return copy(TO_HOST, &c, s, err);
}

/* ---- streams and events ------------------------------------------------------------------------------------------ */

int
rt_stream_new(rt_stream_t *out, struct df_err *err)
{
	struct rt_stream *s = static_cast<struct rt_stream *>(calloc(1, sizeof(*s)));

	if (!s)
		return df_fail(err, DF_ENOMEM, "out of memory for a stream");
	s->end = &s->first;
	pthread_mutex_lock(&lock);
	s->next = streams;
	streams = s;
	pthread_mutex_unlock(&lock);
	*out = s;
	return DF_OK;
}

void
rt_stream_free(rt_stream_t s)
{
	if (!s)
		return;
	pthread_mutex_lock(&lock);
	run_stream(s);
	for (struct rt_stream **at = &streams; *at; at = &(*at)->next)
		if (*at == s) {
			*at = s->next;
			break;
		}
	pthread_mutex_unlock(&lock);
	free(s);
}

int
rt_stream_wait(rt_stream_t s, struct df_err *err)
{
	int rc;

	pthread_mutex_lock(&lock);
	run_stream(stream_or_null(s));
	rc = report(err);
	pthread_mutex_unlock(&lock);
	return rc;
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
	if (!e)
		return;
	pthread_mutex_lock(&lock);
	release(e->mark);
	pthread_mutex_unlock(&lock);
	free(e);
}

int
rt_event_record(rt_event_t e, rt_stream_t s, struct df_err *err)
{
	struct task t = {};
	int rc;

	t.what = RECORD;
	t.mark = static_cast<struct mark *>(calloc(1, sizeof(*t.mark)));
	if (!t.mark)
		return df_fail(err, DF_ENOMEM, "out of memory for an event");
	t.mark->n_users = 1; /* the event */
	pthread_mutex_lock(&lock);
	rc = add(stream_or_null(s), &t, err);
	if (rc == DF_OK) {
		release(e->mark);
		e->mark = t.mark;
	} else {
		free(t.mark);
	}
	pthread_mutex_unlock(&lock);
	return rc;
}

int
rt_event_wait(rt_event_t e, struct df_err *err)
{
	int rc;

	pthread_mutex_lock(&lock);
	run_mark(e->mark);
	rc = report(err);
	pthread_mutex_unlock(&lock);
	return rc;
}

int
rt_stream_after(rt_stream_t s, rt_event_t e, struct df_err *err)
{
	struct task t = {};
	int rc = DF_OK;

	t.what = AFTER;
	pthread_mutex_lock(&lock);
	t.mark = e->mark;
	if (t.mark)
		rc = add(stream_or_null(s), &t, err);
	pthread_mutex_unlock(&lock);
	return rc;
}

int
rt_last_error(const char *what, struct df_err *err)
{
	int rc;

	pthread_mutex_lock(&lock);
	rc = report(err);
	pthread_mutex_unlock(&lock);
	if (rc != DF_OK && err)
		df_err_prefix(err, "%s: ", what);
	return rc;
}
