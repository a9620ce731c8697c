/*
 * meet.cc - what threads of a block do together: barriers, shuffles, products; and copies that run beside.
 */
#include "backend/cuda/emu/engine.h"

const char *const emu_kind_name[] = { "shuffle", "warp_ballot", "sync_warp", "mma_bf16", "wgmma_bf16", "ldmatrix",
	"ldmatrix_transposed", "sync_block" };

/* ---- meetings ---------------------------------------------------------------------------------------------------- */

struct mma_args {
	float *d;
	const uint32_t *a, *b;
};

static void
multiply(struct engine *e, struct warp *w, const struct meeting *m)
{
	float a[16][16], b[16][8], d[16][8];

	if (w->live != ~(uint32_t)0)
		fiber_stop(e, "mma_bf16 (%s:%d): a warp of fewer than 32 threads, or some have ended",
		    emu_base_name(m->file), m->line);
	for (unsigned lane = 0; lane < WARP; lane++) {
		const struct mma_args *p = static_cast<const struct mma_args *>(m->arg[lane]);
		const unsigned g = lane / 4, t = lane % 4 * 2;

		for (unsigned h = 0; h < 2; h++) {
			const unsigned shift = 16 * h;

			a[g][t + h] = of_bf16((uint16_t)(p->a[0] >> shift));
			a[g + 8][t + h] = of_bf16((uint16_t)(p->a[1] >> shift));
			a[g][t + 8 + h] = of_bf16((uint16_t)(p->a[2] >> shift));
			a[g + 8][t + 8 + h] = of_bf16((uint16_t)(p->a[3] >> shift));
			b[t + h][g] = of_bf16((uint16_t)(p->b[0] >> shift));
			b[t + 8 + h][g] = of_bf16((uint16_t)(p->b[1] >> shift));
			d[g][t + h] = p->d[h];
			d[g + 8][t + h] = p->d[2 + h];
		}
	}
	for (unsigned i = 0; i < 16; i++)
		for (unsigned k = 0; k < 16; k++)
			for (unsigned j = 0; j < 8; j++)
				d[i][j] += a[i][k] * b[k][j];
	for (unsigned lane = 0; lane < WARP; lane++) {
		const struct mma_args *p = static_cast<const struct mma_args *>(m->arg[lane]);
		const unsigned g = lane / 4, t = lane % 4 * 2;

		for (unsigned h = 0; h < 2; h++) {
			p->d[h] = d[g][t + h];
			p->d[2 + h] = d[g + 8][t + h];
		}
	}
}

void
meeting_finish(struct engine *e, struct warp *w, struct meeting *m)
{
	if (m->kind == MMA)
		multiply(e, w, m);
	if (m->kind == WGMMA)
		wgmma_begin(e, w, m);
	w->open = NULL;
	fiber_set_ready(e, w, m->here);
}

/* Come to the warp's next meeting with a value and an argument; returns when all came. */
static struct meeting *
meet(enum kind kind, uint32_t value, const void *arg, const char *file, int line)
{
	struct fiber *f = self();
	struct engine *e = f->e;
	struct warp *w = f->warp;
	struct meeting *m = &w->meeting[f->generation++ & 1];

	if (!w->open) {
		w->open = m;
		m->kind = kind;
		m->file = file;
		m->line = line;
		m->here = 0;
	} else if (m->kind != kind || m->line != line || m->file != file) {
		fiber_stop(e, "lanes of a warp meet in different places: thread %u in %s (%s:%d), others in %s (%s:%d)",
		    number_of(f), emu_kind_name[kind], emu_base_name(file), line, emu_kind_name[m->kind],
		    emu_base_name(m->file), m->line);
	}
	m->value[f->lane] = value;
	m->arg[f->lane] = arg;
	m->here |= (uint32_t)1 << f->lane;
	if (m->here == w->live) {
		meeting_finish(e, w, m);
		if (e->in_order)
			fiber_wait(f);
		else if (emu_draw(&e->random, 8) == 0) { /* now and then another warp goes first */
			e->turn = (e->turn + 1) % MOST_WARPS;
			fiber_wait(f);
		}
	} else {
		f->waits = m;
		fiber_clear_ready(e, f);
		fiber_wait(f);
		f->waits = NULL;
	}
	return m;
}

unsigned
emu_lane(void)
{
	const struct fiber *f = self();

	if (f->block->block_dim.x % WARP != 0)
		fiber_stop(f->e, "lane_id(): blockDim.x is %u, not a multiple of 32", f->block->block_dim.x);
	return f->lane;
}

/* Alone among a warp's meetings it orders memory. */
void
sync_warp(const char *file, int line)
{
	const struct fiber *f = self();
	char *edge = &f->e->edges->warp[f->warp - f->e->warps][f->generation & 1];

	__tsan_release(edge);
	meet(SYNC_WARP, 0, NULL, file, line);
	__tsan_acquire(edge);
}

uint32_t
emu_shuffle(uint32_t v, enum emu_shuffle how, unsigned by, const char *file, int line)
{
	const unsigned lane = self()->lane;
	const struct meeting *m = meet(SHUFFLE, v, NULL, file, line);
	unsigned from = lane;

	switch (how) {
	case EMU_FROM: from = by % WARP; break;
	case EMU_XOR: from = lane ^ by; break;
	case EMU_UP:
		from = lane - by; /* huge where there is none */
		break;
	case EMU_DOWN: from = lane + by; break;
	}
	if (from >= WARP)
		return v;
	return m->here >> from & 1 ? m->value[from] : ~(uint32_t)0; /* of a thread that has ended: undefined */
}

uint32_t
warp_ballot(bool p, const char *file, int line)
{
	const struct meeting *m = meet(BALLOT, p, NULL, file, line);
	uint32_t r = 0;

	for (unsigned i = 0; i < WARP; i++)
		if (m->here >> i & 1)
			r |= m->value[i] << i;
	return r;
}

void
mma_bf16(float d[4], const uint32_t a[4], const uint32_t b[2], const char *file, int line)
{
	const struct mma_args args = { d, a, b };

	meet(MMA, 0, &args, file, line);
}

/* Late: the product is made at the wait.  Early: as it begins. */
void
wgmma_bf16(float d[32], const uint32_t a[4], uint64_t at, const char *file, int line)
{
	const struct wgmma_args args = { d, a, at };

	meet(WGMMA, 0, &args, file, line);
}

static bool
is_shared(const struct engine *e, const void *p, size_t n)
{
	const char *q = static_cast<const char *>(p);

	return q >= e->shared && q + n <= e->shared + e->launch->shared_bytes;
}

static void
load_matrices(uint32_t r[4], const void *row, bool transposed, const char *file, int line)
{
	struct fiber *f = self();
	const enum kind kind = transposed ? LDMATRIX_TRANSPOSED : LDMATRIX;
	const unsigned g = f->lane / 4, t = f->lane % 4 * 2;
	const struct meeting *m;

	if ((uintptr_t)row % 16 != 0 || !is_shared(f->e, row, 16))
		fiber_stop(f->e, "thread %u: %s (%s:%d): the address is not %s", number_of(f), emu_kind_name[kind],
		    emu_base_name(file), line, (uintptr_t)row % 16 != 0 ? "a multiple of 16" : "in shared memory");
	m = meet(kind, 0, row, file, line);
	if (m->here != ~(uint32_t)0)
		fiber_stop(f->e, "%s (%s:%d): a warp of fewer than 32 threads, or some have ended", emu_kind_name[kind],
		    emu_base_name(file), line);
	for (unsigned i = 0; i < 4; i++) {
		const uint16_t *low, *high;

		if (transposed) {
			low = static_cast<const uint16_t *>(m->arg[8 * i + t]) + g;
			high = static_cast<const uint16_t *>(m->arg[8 * i + t + 1]) + g;
		} else {
			low = static_cast<const uint16_t *>(m->arg[8 * i + g]) + t;
			high = low + 1;
		}
		__tsan_read2((void *)low);
		__tsan_read2((void *)high);
		r[i] = *low | (uint32_t)*high << 16;
	}
}

void
ldmatrix(uint32_t r[4], const void *row, const char *file, int line)
{
	load_matrices(r, row, false, file, line);
}

void
ldmatrix_transposed(uint32_t r[4], const void *row, const char *file, int line)
{
	load_matrices(r, row, true, file, line);
}

/* Threads that have ended will not come: then nobody goes on, and the launch fails. */
void
sync_block(const char *file, int line)
{
	struct fiber *f = self();
	struct engine *e = f->e;
	struct meeting *m = &e->barrier;
	/* two in turn: a thread that goes on late must not see what a fast one did before the next barrier */
	char *edge = &e->edges->barrier[e->barriers & 1];

	if (e->n_at_barrier == 0) {
		m->kind = SYNC_BLOCK;
		m->file = file;
		m->line = line;
	} else if (m->line != line || m->file != file) {
		fiber_stop(e,
		    "threads meet in different places: thread %u in sync_block (%s:%d), others in sync_block (%s:%d)",
		    number_of(f), emu_base_name(file), line, emu_base_name(m->file), m->line);
	}
	__tsan_release(edge);
	if (++e->n_at_barrier == e->n_threads) {
		e->n_at_barrier = 0;
		e->barriers++;
		fiber_new_round(e);
	} else {
		fiber_clear_ready(e, f);
	}
	f->waits = m;
	fiber_wait(f);
	f->waits = NULL;
	__tsan_acquire(edge);
}

/* ---- copies that run beside -------------------------------------------------------------------------------------- */

static void
do_copy(const struct copy *c)
{
	__tsan_write16(c->to);
	if (c->there) {
		__tsan_read16((void *)c->from);
		memcpy(c->to, c->from, 16);
	} else {
		memset(c->to, 0, 16);
	}
}

/* Late: the destination is NaN until the wait.  Early: it is done at once. */
void
cp_async(void *to, const void *from, bool there, const char *file, int line)
{
	struct fiber *f = self();
	const struct copy c = { to, from, f->group, there };

	if ((uintptr_t)to % 16 != 0 || (there && (uintptr_t)from % 16 != 0))
		fiber_stop(f->e, "thread %u: cp_async (%s:%d): an address is not a multiple of 16", number_of(f),
		    emu_base_name(file), line);
	if (!is_shared(f->e, to, 16))
		fiber_stop(f->e, "thread %u: cp_async (%s:%d): the destination is not in shared memory", number_of(f),
		    emu_base_name(file), line);
	if (f->n_copies == MOST_COPIES)
		fiber_stop(f->e, "thread %u: cp_async (%s:%d): more than %d copies under way", number_of(f),
		    emu_base_name(file), line, MOST_COPIES);
	do_copy(&c); /* late copies, too, so that sanitizers see all that is touched from now on */
	if (!f->e->late_copies)
		return;
	memset(to, POISON, 16);
	f->copies[(f->first_copy + f->n_copies++) % MOST_COPIES] = c;
}

void
cp_async_commit(void)
{
	self()->group++;
}

void
emu_async_wait(unsigned n)
{
	struct fiber *f = self();

	f->unfenced = f->group > n;
	for (; f->n_copies; f->n_copies--) {
		const struct copy *c = &f->copies[f->first_copy % MOST_COPIES];

		if (c->group + n >= f->group)
			break;
		do_copy(c);
		f->first_copy++;
	}
}

void *
emu_shared(size_t size, size_t alignment)
{
	struct engine *e = self()->e;

	if (size > e->launch->shared_bytes)
		fiber_stop(
		    e, "%zu bytes of shared memory are used, the launch gave %zu", size, e->launch->shared_bytes);
	if (alignment > 1024)
		fiber_stop(e, "shared memory is aligned to 1024 bytes, not to %zu", alignment);
	return e->shared;
}
