/*
 * poison.c - the CPU's arithmetic behind memory that bites.
 *
 * Between operations no address of a tensor can be read or written: each
 * allocation is a mapping of its own, without permissions, between two guard
 * pages.  An operation opens exactly its operands, inputs for reading only,
 * and closes them behind itself.  So on a laptop, without a device:
 *
 *   a host read or write of device memory             faults
 *   an operation that writes an input                 faults
 *   running over an allocation's end                  faults (guard page) or is found in the slack
 *   reading what was never written, or an output      gives NaN
 *   using a tensor after its free                     faults
 *   a stage that was not pushed, or not waited for    gives NaN, as indices numbers that do not exist
 *   writing to a stage under way                      is found
 *   using what another lane wrote before its sync     is found
 *
 *        guard    slack          bytes                  guard
 *      | no page | 0xa5...  | data, NaN at first | no page |
 *                            ^ 64-byte aligned   ^ as near to the page's end as alignment allows
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backend/cpu/cpu.h"
#include "base/mem.h"

#define CANARY 0xa5

/* A lane, or the root.  Its operations are done at once, but look as if they took until its next sync. */
struct lane {
	uint64_t id;
	uint64_t synced; /* the clock at that time */
	struct lane *next;
};

struct region {
	char *base; /* the mapping: guard, pages, guard */
	size_t mapped, page;
	/* under `lock` */
	size_t n_readers, n_writers; /* operations under way */
	uint64_t writer, written;    /* the last operation that wrote it: its lane, and when */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct lane *lanes;        /* that there are; under `lock` */
static uint64_t n_lanes, n_ticks; /* that there were; the clock, a tick for each operation that writes */

/* ---- lanes ------------------------------------------------------------------------------------------------------- */

static int
open_lane(struct df_backend *be, struct df_err *err)
{
	struct lane *l = NULL;
	int rc;

	DF_TRY(df_alloc(&l, 1, sizeof(*l), "a lane", err));
	pthread_mutex_lock(&lock);
	l->id = ++n_lanes;
	l->next = lanes;
	lanes = l;
	pthread_mutex_unlock(&lock);
	be->priv = l;
out:
	return rc;
}

static void
close_lane(struct df_backend *be)
{
	struct lane *l = be->priv;

	pthread_mutex_lock(&lock);
	for (struct lane **at = &lanes; *at; at = &(*at)->next)
		if (*at == l) {
			*at = l->next;
			break;
		}
	pthread_mutex_unlock(&lock);
	free(l);
}

static int
open_root(struct df_backend *be, const char *device, struct df_err *err)
{
	(void)device;
	return open_lane(be, err);
}

static int
sync_lane(struct df_backend *be, struct df_err *err)
{
	(void)err;
	pthread_mutex_lock(&lock);
	((struct lane *)be->priv)->synced = n_ticks;
	pthread_mutex_unlock(&lock);
	return DF_OK;
}

/* Was it written in another lane, which was not synced since?  A lane that has ended was. */
static bool
is_under_way(const struct region *r, const struct lane *self)
{
	for (const struct lane *l = lanes; l; l = l->next)
		if (l != self && l->id == r->writer)
			return l->synced < r->written;
	return false;
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

static int
protect(struct region *r, struct df_err *err)
{
	int prot = r->n_writers ? PROT_READ | PROT_WRITE : r->n_readers ? PROT_READ : PROT_NONE;

	if (mprotect(r->base + r->page, r->mapped - 2 * r->page, prot) != 0)
		return df_fail(err, DF_EDEVICE, "poison: mprotect:");
	return DF_OK;
}

/* Count a user in (+1) or out (-1) and set the permissions to what all users together need. */
static int
pin(struct df_mem *m, enum df_access access, int change, struct df_err *err)
{
	struct region *r = m->priv;
	size_t *n = access & DF_OUT ? &r->n_writers : &r->n_readers;
	int rc;

	pthread_mutex_lock(&lock);
	*n += change;
	rc = protect(r, err);
	if (rc != DF_OK && change > 0)
		*n -= 1;
	pthread_mutex_unlock(&lock);
	return rc;
}

/* The bytes between the first page's start and the data, and after the data to the last page's end. */
static bool
slack_is_intact(const struct df_mem *m)
{
	const struct region *r = m->priv;
	const unsigned char *first = (const unsigned char *)r->base + r->page;
	const unsigned char *end = (const unsigned char *)r->base + r->mapped - r->page;
	const unsigned char *data = m->data;

	for (const unsigned char *p = first; p < data; p++)
		if (*p != CANARY)
			return false;
	for (const unsigned char *p = data + m->nbytes; p < end; p++)
		if (*p != CANARY)
			return false;
	return true;
}

static int
alloc(struct df_backend *be, struct df_mem *m, const char *what, struct df_err *err)
{
	struct region *r = NULL;
	size_t page = (size_t)sysconf(_SC_PAGESIZE), padded, body;
	void *base;
	int rc;

	(void)be;
	DF_TRY(df_alloc(&r, 1, sizeof(*r), what, err));
	DF_TRY(df_size_add(m->nbytes, 63 + 3 * page, &padded, what, err));
	padded = (m->nbytes + 63) / 64 * 64;
	body = (padded + page - 1) / page * page;
	base = mmap(NULL, body + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (base == MAP_FAILED) {
		rc = df_fail(err, DF_ENOMEM, "%s: out of memory for %zu bytes", what, m->nbytes);
		goto out;
	}
	*r = (struct region){ .base = base, .mapped = body + 2 * page, .page = page };
	m->data = r->base + page + body - padded;
	m->priv = r;
	if ((rc = pin(m, DF_OUT, 1, err)) != DF_OK) {
		munmap(base, r->mapped);
		goto out;
	}
	memset(r->base + page, CANARY, body);
	memset(m->data, 0xff, m->nbytes); /* NaN in every float type */
	r = NULL;
	rc = pin(m, DF_OUT, -1, err);
out:
	free(r);
	return rc;
}

static void
release(struct df_backend *be, struct df_mem *m)
{
	struct region *r = m->priv;

	(void)be;
	munmap(r->base, r->mapped);
	free(r);
}

/* Does o[i]'s window share its allocation with an input?  Then it may be in-place use, and is left as it is. */
static bool
is_input_too(const struct df_operand *o, size_t n, size_t i)
{
	for (size_t j = 0; j < n; j++)
		if (o[j].t->mem == o[i].t->mem && (o[j].access & DF_IN))
			return true;
	return false;
}

static int
leave(struct df_backend *be, const struct df_operand *o, size_t n, struct df_err *err)
{
	int rc = DF_OK, rc2;

	(void)be;
	for (size_t i = 0; i < n; i++) {
		if (rc == DF_OK && (o[i].access & DF_OUT) && !slack_is_intact(o[i].t->mem))
			rc = df_fail(
			    err, DF_EDEVICE, "poison: tensor %s: bytes outside its allocation were written", o[i].name);
		rc2 = pin(o[i].t->mem, o[i].access, -1, rc ? NULL : err);
		rc = rc ? rc : rc2;
	}
	return rc;
}

/* The operands were not written in a lane that may still be at it; what is written now, this lane writes. */
static int
claim(struct df_backend *be, const struct df_operand *o, size_t n, struct df_err *err)
{
	const struct lane *self = be->priv;
	int rc = DF_OK;

	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < n && rc == DF_OK; i++)
		if (is_under_way(o[i].t->mem->priv, self))
			rc = df_fail(err, DF_EDEVICE,
			    "poison: tensor %s: written in another lane, without a sync since", o[i].name);
	n_ticks++;
	for (size_t i = 0; i < n && rc == DF_OK; i++)
		if (o[i].access & DF_OUT) {
			struct region *r = o[i].t->mem->priv;

			r->writer = self->id;
			r->written = n_ticks;
		}
	pthread_mutex_unlock(&lock);
	return rc;
}

/* Open the operands; what is only written holds NaN when the operation begins. */
static int
enter(struct df_backend *be, const struct df_operand *o, size_t n, struct df_err *err)
{
	size_t i = 0;
	int rc;

	DF_TRY(claim(be, o, n, err));
	for (; i < n; i++)
		DF_TRY(pin(o[i].t->mem, o[i].access, 1, err));
	for (i = 0; i < n; i++) {
		const struct df_tensor t = *o[i].t;
		size_t size = df_dtype_size(t.type);

		if (o[i].access == DF_OUT && !is_input_too(o, n, i))
			for (size_t row = 0; row < t.rows; row++)
				memset((char *)df_tensor_host(t) + row * t.ld * size, 0xff, t.cols * size);
	}
out:
	if (rc != DF_OK)
		leave(be, o, i, NULL);
	return rc;
}

static int
write_bytes(struct df_backend *be, struct df_tensor dst, const void *src, struct df_err *err)
{
	const struct df_operand o = { &dst, DF_OUT, "dst", DF_ANY_TYPE };
	int rc, rc2;

	DF_TRY(enter(be, &o, 1, err));
	rc = df_host_upload(be, dst, src, err);
	rc2 = leave(be, &o, 1, rc ? NULL : err);
	rc = rc ? rc : rc2;
out:
	return rc;
}

static int
read_bytes(struct df_backend *be, void *dst, struct df_tensor src, struct df_err *err)
{
	const struct df_operand o = { &src, DF_IN, "src", DF_ANY_TYPE };
	int rc, rc2;

	DF_TRY(enter(be, &o, 1, err));
	rc = df_host_download(be, dst, src, err);
	rc2 = leave(be, &o, 1, rc ? NULL : err);
	rc = rc ? rc : rc2;
out:
	return rc;
}

/* These wait for their bytes, and so for all that their lane did before. */
static int
upload(struct df_backend *be, struct df_tensor dst, const void *src, struct df_err *err)
{
	int rc = write_bytes(be, dst, src, err);

	return rc == DF_OK ? sync_lane(be, err) : rc;
}

static int
download(struct df_backend *be, void *dst, struct df_tensor src, struct df_err *err)
{
	int rc = read_bytes(be, dst, src, err);

	return rc == DF_OK ? sync_lane(be, err) : rc;
}

/* ---- stages ------------------------------------------------------------------------------------------------------ */

/*
 * Copies are made at once, but look as if they took until the wait: what was pulled reaches the host's side then, and
 * is NaN before; what was pushed must be unchanged then.  `bytes` holds what is under way.
 */
enum transit { AT_REST, GOING, COMING };
struct journey {
	unsigned char *bytes, *state; /* one of each per byte of the stage */
};

static void
stage_close(struct df_backend *be, struct df_stage *st)
{
	struct journey *j = st->priv;

	(void)be;
	if (j) {
		free(j->bytes);
		free(j->state);
	}
	free(j);
	free(st->host);
}

static int
stage_open(struct df_backend *be, struct df_stage *st, const char *what, struct df_err *err)
{
	const size_t n = st->device.cols;
	struct journey *j = NULL;
	int rc;

	(void)be;
	DF_TRY(df_alloc(&j, 1, sizeof(*j), what, err));
	st->priv = j;
	DF_TRY(df_alloc(&j->bytes, n, 1, what, err));
	DF_TRY(df_alloc(&j->state, n, 1, what, err));
	DF_TRY(df_alloc(&st->host, n, 1, what, err));
	memset(st->host, 0xff, n);
out:
	return rc;
}

/* The bytes [first, first + n) of the host's side were not written while they were on their way. */
static int
check_unchanged(const struct df_stage *st, size_t first, size_t n, struct df_err *err)
{
	const struct journey *j = st->priv;
	const unsigned char *host = st->host;

	for (size_t i = first; i < first + n; i++)
		if (j->state[i] != AT_REST && host[i] != (j->state[i] == GOING ? j->bytes[i] : 0xff))
			return df_fail(err, DF_EDEVICE,
			    "poison: stage: the host wrote byte %zu after it was %s and before the wait", i,
			    j->state[i] == GOING ? "pushed" : "pulled");
	return DF_OK;
}

static int
stage_push(struct df_backend *be, struct df_stage *st, size_t first, size_t n, struct df_err *err)
{
	struct journey *j = st->priv;
	int rc;

	DF_TRY(check_unchanged(st, first, n, err));
	if (memchr(j->state + first, COMING, n))
		return df_fail(err, DF_EDEVICE, "poison: stage: pushed what was pulled and not waited for");
	memcpy(j->bytes + first, df_stage_host(st, first), n);
	memset(j->state + first, GOING, n);
	rc = write_bytes(be, df_tensor_view(st->device, first, 1, n), j->bytes + first, err);
out:
	return rc;
}

static int
stage_pull(struct df_backend *be, struct df_stage *st, size_t first, size_t n, struct df_err *err)
{
	struct journey *j = st->priv;
	int rc;

	DF_TRY(check_unchanged(st, first, n, err));
	DF_TRY(read_bytes(be, j->bytes + first, df_tensor_view(st->device, first, 1, n), err));
	memset(df_stage_host(st, first), 0xff, n);
	memset(j->state + first, COMING, n);
out:
	return rc;
}

static int
stage_wait(struct df_backend *be, struct df_stage *st, struct df_err *err)
{
	const size_t n = st->device.cols;
	struct journey *j = st->priv;
	unsigned char *host = st->host;
	int rc;

	DF_TRY(check_unchanged(st, 0, n, err));
	for (size_t i = 0; i < n; i++)
		if (j->state[i] == COMING)
			host[i] = j->bytes[i];
	memset(j->state, AT_REST, n);
	rc = sync_lane(be, err);
out:
	return rc;
}

static const struct df_stage_ops stage_ops = { stage_open, stage_close, stage_push, stage_pull, stage_wait };

/* Small models get blocks of one piece, of some and of all. */
static void
traits(const struct df_backend *be, struct df_backend_traits *t)
{
	(void)be;
	t->block_bytes = (size_t)1 << 22;
}

const struct df_backend_ops df_poison_backend = {
	.api_version = DF_BACKEND_API_VERSION,
	.name = "poison",
	.reads_on_host = true,
	.exact = true,
	.keeps_logits = true,
	.act_bf16 = DF_BF16_COPIES,
	.traits = traits,
	.open = open_root,
	.close = close_lane,
	.fork = open_lane,
	.join = close_lane,
	.alloc = alloc,
	.free = release,
	.upload = upload,
	.download = download,
	.sync = sync_lane,
	.stage = &stage_ops,
	.op = df_cpu_op,
	.enter = enter,
	.leave = leave,
};
