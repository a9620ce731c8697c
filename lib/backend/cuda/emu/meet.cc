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

static void do_product(struct engine *e, unsigned lane, const struct product *p);

struct wgmma_args {
	float *d;
	const uint32_t *a;
	uint64_t b;
};

/* Each lane keeps what it needs of its neighbours' registers: they may write them while the product is under way. */
static void
begin_products(struct engine *e, struct warp *w, const struct meeting *m)
{
	if (w->live != ~(uint32_t)0 || e->n_warps % 4 != 0)
		fiber_stop(e, "wgmma_bf16 (%s:%d): not four whole warps", emu_base_name(m->file), m->line);
	for (unsigned i = 0; i < e->n_threads; i++)
		if (e->fibers[i].unfenced)
			fiber_stop(e, "wgmma_bf16 (%s:%d): no async_fence() after cp_async_wait() of thread %u",
			    emu_base_name(m->file), m->line, i);
	for (unsigned lane = 0; lane < WARP; lane++) {
		const struct wgmma_args *args = static_cast<const struct wgmma_args *>(m->arg[lane]);
		struct fiber *f = &w->lanes[lane];
		struct product *p = &f->products[(f->first_product + f->n_products) % MOST_PRODUCTS];

		if (!f->fenced)
			fiber_stop(e, "thread %u: wgmma_bf16 (%s:%d): no wgmma_fence() before", number_of(f),
			    emu_base_name(m->file), m->line);
		if (f->n_products == MOST_PRODUCTS)
			fiber_stop(e, "thread %u: wgmma_bf16 (%s:%d): more than %d products under way", number_of(f),
			    emu_base_name(m->file), m->line, MOST_PRODUCTS);
		p->d = args->d;
		p->b = args->b;
		p->group = f->product_group;
		for (unsigned t = 0; t < 4; t++)
			memcpy(p->a[t], static_cast<const struct wgmma_args *>(m->arg[lane / 4 * 4 + t])->a,
			    sizeof(p->a[t]));
		if (e->late_copies)
			f->n_products++;
		else
			do_product(e, lane, p);
	}
}

void
meeting_finish(struct engine *e, struct warp *w, struct meeting *m)
{
	if (m->kind == MMA)
		multiply(e, w, m);
	if (m->kind == WGMMA)
		begin_products(e, w, m);
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

/* ---- products of a warpgroup ------------------------------------------------------------------------------------- */

uint32_t
shared_address(const void *p)
{
	return (uint32_t)(static_cast<const char *>(p) - self()->e->shared);
}

/* Element k of column n of an operand: PTX ISA, "matrix descriptor" and the swizzle of 128 bytes. */
static float
operand_at(struct engine *e, uint64_t b, unsigned n, unsigned k)
{
	const uint32_t start = (uint32_t)(b & 0x3fff) << 4, stride = (uint32_t)(b >> 32 & 0x3fff) << 4;
	const uint32_t at = start + n / 8 * stride + n % 8 * 128 + 2 * k, place = at ^ (at >> 3 & 0x70);
	uint16_t v;

	if (b >> 62 != 1 || (b >> 49 & 7) != 0 || (start & 0x380) != 0)
		fiber_stop(e,
		    "wgmma_bf16: the descriptor %#llx is not of rows of 128 bytes, swizzled, at a multiple of 1024",
		    (unsigned long long)b);
	if (place + 2 > e->launch->shared_bytes)
		fiber_stop(e, "wgmma_bf16: column %u lies at %u, beyond %zu bytes of shared memory", n, place,
		    e->launch->shared_bytes);
	__tsan_read2(e->shared + place);
	memcpy(&v, e->shared + place, 2);
	return of_bf16(v);
}

static void
do_product(struct engine *e, unsigned lane, const struct product *p)
{
	float a[2][16];

	for (unsigned k = 0; k < 16; k++)
		for (unsigned h = 0; h < 2; h++)
			a[h][k] = of_bf16((uint16_t)(p->a[k % 8 / 2][k / 8 * 2 + h] >> 16 * (k % 2)));
	for (unsigned n = 0; n < 64; n += n % 2 ? 7 : 1) {
		const unsigned col = n + lane % 4 * 2;
		float b[16];

		for (unsigned k = 0; k < 16; k++)
			b[k] = operand_at(e, p->b, col, k);
		for (unsigned h = 0; h < 2; h++)
			for (unsigned k = 0; k < 16; k++)
				p->d[n / 8 * 4 + 2 * h + n % 2] += a[h][k] * b[k];
	}
}

void
async_fence(void)
{
	self()->unfenced = false;
}

void
wgmma_fence(void)
{
	self()->fenced = true;
}

/* Late: the product is made at the wait.  Early: as it begins. */
void
wgmma_bf16(float d[32], const uint32_t a[4], uint64_t at, const char *file, int line)
{
	const struct wgmma_args args = { d, a, at };

	meet(WGMMA, 0, &args, file, line);
}

void
wgmma_commit(void)
{
	self()->product_group++;
	self()->fenced = false;
}

void
emu_wgmma_wait(unsigned n)
{
	struct fiber *f = self();

	for (; f->n_products; f->n_products--) {
		const struct product *p = &f->products[f->first_product % MOST_PRODUCTS];

		if (p->group + n >= f->product_group)
			break;
		do_product(f->e, f->lane, p);
		f->first_product++;
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
