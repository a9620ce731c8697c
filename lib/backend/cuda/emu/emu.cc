/*
 * emu.cc - blocks of threads as fibers of one thread of the host.
 */
#include "backend/cuda/emu/emu.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef __x86_64__
#include <ucontext.h>
#endif

#include "backend/cuda/emu/sanitize.h"

#define STACK_BYTES ((size_t)64 << 10)
#define GUARD_BYTES ((size_t)4 << 10) /* below each stack */
#define WARP 32
#define MOST_WARPS (EMU_MOST_THREADS / WARP)
#define MOST_COPIES 256 /* cp_async()s of a thread that are under way */
#define MOST_PRODUCTS 64 /* wgmma_bf16()s of a thread that are under way */
#define CANARY 0xa5
#define CANARY_BYTES (EMU_ASAN ? (size_t)0 : (size_t)64)
#define POISON 0xff     /* NaN in every float type, and an index that does not exist */

__thread emu_thread *emu_now;

/* ---- random numbers -------------------------------------------------------------------------------------------------- */

static uint64_t the_seed;
static pthread_once_t seed_once = PTHREAD_ONCE_INIT;

static void
read_seed(void)
{
	const char *s = getenv("DF_EMU_SEED");

	the_seed = s ? strtoull(s, NULL, 0) : 0;
}

uint64_t
emu_seed(void)
{
	pthread_once(&seed_once, read_seed);
	return __atomic_load_n(&the_seed, __ATOMIC_RELAXED);
}

void
emu_set_seed(uint64_t seed)
{
	emu_seed();
	__atomic_store_n(&the_seed, seed, __ATOMIC_RELAXED);
}

/* splitmix64 */
uint32_t
emu_draw(struct emu_random *r, uint32_t n)
{
	uint64_t z = r->state += 0x9E3779B97F4A7C15u;

	z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
	z = (z ^ z >> 27) * 0x94D049BB133111EBu;
	return (uint32_t)(((z ^ z >> 31) >> 32) * n >> 32);
}

/* ---- what there is --------------------------------------------------------------------------------------------------- */

enum kind { SHUFFLE, BALLOT, SYNC_WARP, MMA, WGMMA, LDMATRIX, LDMATRIX_TRANSPOSED, SYNC_BLOCK };
static const char *const kind_name[] = { "shuffle", "warp_ballot", "sync_warp", "mma_bf16", "wgmma_bf16",
	"ldmatrix", "ldmatrix_transposed", "sync_block" };

/* Where all lanes of a warp, or all threads of a block, come to. */
struct meeting {
	enum kind kind;
	const char *file;
	int line;
	uint32_t here; /* lanes that came */
	uint32_t value[WARP];
	const void *arg[WARP];
};
struct mma_args {
	float *d;
	const uint32_t *a, *b;
};

struct wgmma_args {
	float *d;
	const uint32_t *a;
	uint64_t b;
};

/* A thread's part of a product of a warpgroup that is under way: two rows of 64 columns. */
struct product {
	float *d;
	uint32_t a[4][4]; /* of the four lanes that have its rows */
	uint64_t b;
	unsigned group;
};

struct context {
#ifdef __x86_64__
	void *sp;
#else
	ucontext_t u;
#endif
};

struct copy {
	void *to;
	const void *from;
	unsigned group;
	bool there;
};

struct fiber : emu_thread {
	struct engine *e;
	struct warp *warp;
	struct context at;
	char *stack; /* its lowest byte; NULL before the thread begins and after it ended */
	void *tsan;
	bool ended;
	unsigned turn;       /* its place in warp->order */
	unsigned generation; /* meetings of the warp that it came to */
	/* where it waits; NULL: nowhere */
	const struct meeting *waits;
	/* copies that are under way, the oldest first; apart, as fibers lie close together to share the cache */
	unsigned first_copy, n_copies, group;
	struct copy *copies; /* a ring */
	/* and products */
	unsigned first_product, n_products, product_group;
	struct product *products; /* a ring */
	bool fenced;   /* wgmma_fence() since the last commit */
	bool unfenced; /* copies were waited for, and no async_fence() since */
#if EMU_ASAN
	void *fake;
#endif
};

struct warp {
	struct fiber *lanes; /* the first of its threads */
	unsigned turn;       /* its place in engine's order */
	uint32_t all, live;  /* bits are lanes */
	uint32_t ready;      /* bits are turns: can run */
	unsigned char order[WARP]; /* turn -> lane */
	/* Two, used in turn: a fast lane may come to the next meeting while slow ones still read this one. */
	struct meeting meeting[2];
	struct meeting *open; /* that not all came to */
};

/* What orders threads, for TSan; only addresses count.  Each block has its own. */
struct edges {
	char barrier[2], warp[MOST_WARPS][2], end;
};

/* What runs a block: one for each thread of the host that runs blocks. */
struct engine {
	const struct emu_launch *launch;
	struct emu_block block;
	struct emu_random random;
	bool in_order, late_copies;
	unsigned n_threads, n_warps, n_ended, n_at_barrier;
	struct meeting barrier;
	unsigned turn;  /* of the warp that runs */
	uint32_t ready; /* bits are turns of warps that have a ready lane */
	unsigned char order[MOST_WARPS];
	struct warp warps[MOST_WARPS];
	struct fiber fibers[EMU_MOST_THREADS];
	struct copy copies[EMU_MOST_THREADS][MOST_COPIES];
	struct product products[EMU_MOST_THREADS][MOST_PRODUCTS];
	char *shared;
	/* stacks that nobody uses, the last is taken first */
	char *stacks, *free_stacks[EMU_MOST_THREADS];
	unsigned n_free;
	/*
	 * For TSan: two sets of contexts, each context with a stack of its own, take turns between blocks.  With one
	 * set a thread's next use, after the barriers of its last block, would order everything.
	 */
	unsigned set, barriers;
	void *tsan[2][EMU_MOST_THREADS], *host_tsan, *janitor;
	struct edges *edges;
	char begin, end; /* of the launch */
	struct context host; /* who called run_block() */
#if EMU_ASAN
	void *host_fake;
	const void *host_stack;
	size_t host_stack_bytes;
#endif
	bool failed;
	char message[DF_ERR_MAX];
};

static struct fiber *
self(void)
{
	return static_cast<struct fiber *>(emu_now);
}

/* ---- switching ------------------------------------------------------------------------------------------------------- */

static void fiber_main(void);

#ifdef __x86_64__
/* Push the registers that a function keeps, leave the stack at *save, go on at `to`. */
extern "C" void emu_switch(void **save, void *to);
asm(".text\n"
    ".type emu_switch, @function\n"
    "emu_switch:\n"
    "	push %rbp\n"
    "	push %rbx\n"
    "	push %r12\n"
    "	push %r13\n"
    "	push %r14\n"
    "	push %r15\n"
    "	mov %rsp, (%rdi)\n"
    "	mov %rsi, %rsp\n"
    "	pop %r15\n"
    "	pop %r14\n"
    "	pop %r13\n"
    "	pop %r12\n"
    "	pop %rbx\n"
    "	pop %rbp\n"
    "	ret\n"
    ".size emu_switch, . - emu_switch\n");

/*
 * A stack on which fiber_main() begins at the first switch.  At the entry of a function rsp is 8 below a multiple of 16.
 * Tops are shifted against each other, so that stacks do not share the same few lines of the cache.
 */
static void
prepare(struct context *c, char *stack, unsigned number)
{
	void **top = (void **)(stack + STACK_BYTES - number % WARP * 128);

	*--top = NULL;
	*--top = (void *)fiber_main;
	for (int i = 0; i < 6; i++)
		*--top = NULL;
	c->sp = top;
}

static inline void
jump(struct context *from, struct context *to)
{
	emu_switch(&from->sp, to->sp);
}
#else
static void
prepare(struct context *c, char *stack, unsigned number)
{
	(void)number;
	getcontext(&c->u);
	c->u.uc_stack.ss_sp = stack;
	c->u.uc_stack.ss_size = STACK_BYTES;
	c->u.uc_link = NULL;
	makecontext(&c->u, fiber_main, 0);
}

static inline void
jump(struct context *from, struct context *to)
{
	swapcontext(&from->u, &to->u);
}
#endif

static char *
stack_of(const struct engine *e, unsigned set, unsigned i)
{
	return e->stacks + ((size_t)set * EMU_MOST_THREADS + i) * (STACK_BYTES + GUARD_BYTES) + GUARD_BYTES;
}

static void
take_stack(struct engine *e, struct fiber *f)
{
	const unsigned i = (unsigned)(f - e->fibers);

	if (EMU_TSAN) {
		f->stack = stack_of(e, e->set, i);
		prepare(&f->at, f->stack, i);
		return;
	}
	f->stack = e->free_stacks[--e->n_free];
	san_open(f->stack + STACK_BYTES - 8192, 8192); /* fiber_main() never returns: its frame was left behind */
	prepare(&f->at, f->stack, i);
}

/* Let `f` run, or, where it is NULL, the host.  `from` is the fiber that waits; NULL: it never comes back. */
static void
switch_to(struct engine *e, struct fiber *from, struct fiber *f)
{
	struct context nowhere;

	if (f && !f->stack) {
		take_stack(e, f);
	}
	emu_now = f;
#if EMU_ASAN
	if (f)
		__sanitizer_start_switch_fiber(from ? &from->fake : NULL, f->stack, STACK_BYTES);
	else
		__sanitizer_start_switch_fiber(from ? &from->fake : NULL, e->host_stack, e->host_stack_bytes);
#endif
	__tsan_switch_to_fiber(f ? f->tsan : e->host_tsan, NO_ORDER);
	jump(from ? &from->at : &nowhere, f ? &f->at : &e->host);
#if EMU_ASAN
	__sanitizer_finish_switch_fiber(from->fake, NULL, NULL);
#endif
}

/* ---- faults ---------------------------------------------------------------------------------------------------------- */

/* The launch fails: the host goes on, and no thread of the block ever does. */
static void stop(struct engine *e, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));
static void
stop(struct engine *e, const char *fmt, ...)
{
	const struct emu_launch *l = e->launch;
	const dim3 b = e->block.index;
	va_list ap;
	int n;

	n = snprintf(e->message, sizeof(e->message), "kernel %s, block (%u,%u,%u): ", l->name, b.x, b.y, b.z);
	va_start(ap, fmt);
	if (n >= 0 && (size_t)n < sizeof(e->message))
		vsnprintf(e->message + n, sizeof(e->message) - (size_t)n, fmt, ap);
	va_end(ap);
	e->failed = true;
	__tsan_release(&e->end);
	switch_to(e, NULL, NULL);
	abort();
}

static const char *
base_name(const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;

	return slash ? slash + 1 : path;
}

static unsigned
number_of(const struct fiber *f)
{
	return (unsigned)(f - f->e->fibers);
}

/* Nobody can run and not all have ended: say who waits where. */
static void stop_stuck(struct engine *e) __attribute__((noreturn));
static void
stop_stuck(struct engine *e)
{
	char text[512];
	size_t n = 0;

	for (unsigned i = 0, first; i < e->n_threads && n + 128 < sizeof(text); i = first) {
		const struct fiber *f = &e->fibers[i];

		for (first = i; first < e->n_threads; first++) {
			const struct fiber *g = &e->fibers[first];

			if (g->ended != f->ended || (!f->ended &&
			    (g->waits->kind != f->waits->kind || g->waits->file != f->waits->file ||
				g->waits->line != f->waits->line)))
				break;
		}
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%sthreads %u-%u ", n ? "; " : "", i, first - 1);
		if (f->ended)
			n += (size_t)snprintf(text + n, sizeof(text) - n, "have ended");
		else
			n += (size_t)snprintf(text + n, sizeof(text) - n, "wait in %s (%s:%d)", kind_name[f->waits->kind],
			    base_name(f->waits->file), f->waits->line);
	}
	stop(e, "threads wait for each other: %s", text);
}

/* ---- who runs next --------------------------------------------------------------------------------------------------- */

/* From a signal's handler. */
void
emu_say_fault(const char *text)
{
	const struct fiber *f = self();

	if (f) {
		const dim3 b = f->block->index;

		dprintf(2, "emulator: kernel %s, block (%u,%u,%u), thread (%u,%u,%u): fault at %s\n", f->e->launch->name, b.x,
		    b.y, b.z, f->index.x, f->index.y, f->index.z, text);
	} else {
		dprintf(2, "emulator: not in a kernel: fault at %s\n", text);
	}
}

/* 0, 1, ... n - 1 in an order of the seed. */
static void
shuffle_order(struct engine *e, unsigned char *order, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		order[i] = (unsigned char)i;
	if (e->in_order)
		return;
	for (unsigned i = n; i > 1; i--) {
		const unsigned j = emu_draw(&e->random, i);
		const unsigned char t = order[i - 1];

		order[i - 1] = order[j];
		order[j] = t;
	}
}

/* All live threads can run, in a new order. */
static void
begin_round(struct engine *e)
{
	shuffle_order(e, e->order, e->n_warps);
	e->ready = 0;
	e->turn = 0;
	for (unsigned i = 0; i < e->n_warps; i++) {
		struct warp *w = &e->warps[e->order[i]];

		w->turn = i;
		shuffle_order(e, w->order, WARP);
		w->ready = 0;
		for (unsigned t = 0; t < WARP; t++) {
			const unsigned lane = w->order[t];

			if (w->live >> lane & 1) {
				w->lanes[lane].turn = t;
				w->ready |= (uint32_t)1 << t;
			}
		}
		e->ready |= (uint32_t)(w->ready != 0) << i;
	}
}

static void
set_ready(struct engine *e, struct warp *w, uint32_t lanes)
{
	if (lanes == ~(uint32_t)0) /* the usual case */
		w->ready = lanes;
	else
		for (; lanes; lanes &= lanes - 1)
			w->ready |= (uint32_t)1 << w->lanes[__builtin_ctz(lanes)].turn;
	e->ready |= (uint32_t)1 << w->turn;
}

static void
clear_ready(struct engine *e, const struct fiber *f)
{
	struct warp *w = f->warp;

	w->ready &= ~((uint32_t)1 << f->turn);
	if (!w->ready)
		e->ready &= ~((uint32_t)1 << w->turn);
}

/* The warp that runs goes on until all its lanes wait; then the next one in the order of this round.  NULL: nobody. */
static struct fiber *
pick(struct engine *e)
{
	const uint32_t later = e->ready & ~(uint32_t)0 << e->turn;
	struct warp *w;

	if (!e->ready)
		return NULL;
	e->turn = (unsigned)__builtin_ctz(later ? later : e->ready);
	w = &e->warps[e->order[e->turn]];
	return &w->lanes[w->order[__builtin_ctz(w->ready)]];
}

/* Wait until somebody has made this thread ready. */
static void
wait_for_others(struct fiber *f)
{
	struct engine *e = f->e;
	struct fiber *next = pick(e);

	if (next == f)
		return;
	if (!next)
		stop_stuck(e);
	switch_to(e, f, next);
}

/* ---- a thread's life ------------------------------------------------------------------------------------------------- */

static void finish(struct engine *e, struct warp *w, struct meeting *m);

static void
end_thread(struct fiber *f)
{
	struct engine *e = f->e;
	struct warp *w = f->warp;

	f->ended = true;
	e->n_ended++;
	w->live &= ~((uint32_t)1 << f->lane);
	clear_ready(e, f);
	/* Those that wait for this lane meet without it. */
	if (w->open && w->open->here == w->live)
		finish(e, w, w->open);
}

static void
fiber_main(void)
{
	struct engine *e = self()->e;

#if EMU_ASAN
	if (!e->host_stack)
		__sanitizer_finish_switch_fiber(NULL, &e->host_stack, &e->host_stack_bytes);
	else
		__sanitizer_finish_switch_fiber(NULL, NULL, NULL);
#endif
	for (;;) {
		struct fiber *f = self(), *next;

		__tsan_acquire(&e->begin);
		e->launch->thread(e->launch->args);
		__tsan_release(&e->edges->end);
		end_thread(f);
		next = pick(e);
		if (!next && e->n_ended != e->n_threads)
			stop_stuck(e);
		/* Where threads do not meet they run one after the other on the same stack. */
		if (next && !next->stack && !EMU_TSAN) {
			next->stack = f->stack;
			f->stack = NULL;
			emu_now = next;
			continue;
		}
		if (!EMU_TSAN)
			e->free_stacks[e->n_free++] = f->stack;
		f->stack = NULL;
		switch_to(e, NULL, next);
	}
}

/* ---- meetings -------------------------------------------------------------------------------------------------------- */

static void
multiply(struct engine *e, struct warp *w, const struct meeting *m)
{
	float a[16][16], b[16][8], d[16][8];

	if (w->live != ~(uint32_t)0)
		stop(e, "mma_bf16 (%s:%d): a warp of fewer than 32 threads, or some have ended", base_name(m->file), m->line);
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

/* Each lane keeps what it needs of its neighbours' registers: they may write them as soon as the product is under way. */
static void
begin_products(struct engine *e, struct warp *w, const struct meeting *m)
{
	if (w->live != ~(uint32_t)0 || e->n_warps % 4 != 0)
		stop(e, "wgmma_bf16 (%s:%d): not four whole warps", base_name(m->file), m->line);
	for (unsigned i = 0; i < e->n_threads; i++)
		if (e->fibers[i].unfenced)
			stop(e, "wgmma_bf16 (%s:%d): no async_fence() after cp_async_wait() of thread %u", base_name(m->file),
			    m->line, i);
	for (unsigned lane = 0; lane < WARP; lane++) {
		const struct wgmma_args *args = static_cast<const struct wgmma_args *>(m->arg[lane]);
		struct fiber *f = &w->lanes[lane];
		struct product *p = &f->products[(f->first_product + f->n_products) % MOST_PRODUCTS];

		if (!f->fenced)
			stop(e, "thread %u: wgmma_bf16 (%s:%d): no wgmma_fence() before", number_of(f), base_name(m->file), m->line);
		if (f->n_products == MOST_PRODUCTS)
			stop(e, "thread %u: wgmma_bf16 (%s:%d): more than %d products under way", number_of(f),
			    base_name(m->file), m->line, MOST_PRODUCTS);
		p->d = args->d;
		p->b = args->b;
		p->group = f->product_group;
		for (unsigned t = 0; t < 4; t++)
			memcpy(p->a[t], static_cast<const struct wgmma_args *>(m->arg[lane / 4 * 4 + t])->a, sizeof(p->a[t]));
		if (e->late_copies)
			f->n_products++;
		else
			do_product(e, lane, p);
	}
}

/* All lanes that live have come: do what is done once for all, and let them go on. */
static void
finish(struct engine *e, struct warp *w, struct meeting *m)
{
	if (m->kind == MMA)
		multiply(e, w, m);
	if (m->kind == WGMMA)
		begin_products(e, w, m);
	w->open = NULL;
	set_ready(e, w, m->here);
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
		stop(e, "lanes of a warp meet in different places: thread %u in %s (%s:%d), others in %s (%s:%d)", number_of(f),
		    kind_name[kind], base_name(file), line, kind_name[m->kind], base_name(m->file), m->line);
	}
	m->value[f->lane] = value;
	m->arg[f->lane] = arg;
	m->here |= (uint32_t)1 << f->lane;
	if (m->here == w->live) {
		finish(e, w, m);
		if (e->in_order)
			wait_for_others(f);
		else if (emu_draw(&e->random, 8) == 0) { /* now and then another warp goes first */
			e->turn = (e->turn + 1) % MOST_WARPS;
			wait_for_others(f);
		}
	} else {
		f->waits = m;
		clear_ready(e, f);
		wait_for_others(f);
		f->waits = NULL;
	}
	return m;
}

unsigned
emu_lane(void)
{
	const struct fiber *f = self();

	if (f->block->block_dim.x % WARP != 0)
		stop(f->e, "lane_id(): blockDim.x is %u, not a multiple of 32", f->block->block_dim.x);
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
	case EMU_FROM:
		from = by % WARP;
		break;
	case EMU_XOR:
		from = lane ^ by;
		break;
	case EMU_UP:
		from = lane - by; /* huge where there is none */
		break;
	case EMU_DOWN:
		from = lane + by;
		break;
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
		stop(f->e, "thread %u: %s (%s:%d): the address is not %s", number_of(f), kind_name[kind], base_name(file), line,
		    (uintptr_t)row % 16 != 0 ? "a multiple of 16" : "in shared memory");
	m = meet(kind, 0, row, file, line);
	if (m->here != ~(uint32_t)0)
		stop(f->e, "%s (%s:%d): a warp of fewer than 32 threads, or some have ended", kind_name[kind], base_name(file),
		    line);
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
		stop(e, "threads meet in different places: thread %u in sync_block (%s:%d), others in sync_block (%s:%d)",
		    number_of(f), base_name(file), line, base_name(m->file), m->line);
	}
	__tsan_release(edge);
	if (++e->n_at_barrier == e->n_threads) {
		e->n_at_barrier = 0;
		e->barriers++;
		begin_round(e);
	} else {
		clear_ready(e, f);
	}
	f->waits = m;
	wait_for_others(f);
	f->waits = NULL;
	__tsan_acquire(edge);
}

/* ---- copies that run beside ------------------------------------------------------------------------------------------ */

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
		stop(f->e, "thread %u: cp_async (%s:%d): an address is not a multiple of 16", number_of(f), base_name(file), line);
	if (!is_shared(f->e, to, 16))
		stop(f->e, "thread %u: cp_async (%s:%d): the destination is not in shared memory", number_of(f), base_name(file),
		    line);
	if (f->n_copies == MOST_COPIES)
		stop(f->e, "thread %u: cp_async (%s:%d): more than %d copies under way", number_of(f), base_name(file), line,
		    MOST_COPIES);
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

/* ---- products of a warpgroup ------------------------------------------------------------------------------------------ */

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
		stop(e, "wgmma_bf16: the descriptor %#llx is not of rows of 128 bytes, swizzled, at a multiple of 1024",
		    (unsigned long long)b);
	if (place + 2 > e->launch->shared_bytes)
		stop(e, "wgmma_bf16: column %u lies at %u, beyond %zu bytes of shared memory", n, place, e->launch->shared_bytes);
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

/* ---- blocks and grids ------------------------------------------------------------------------------------------------ */

void *
emu_shared(size_t size, size_t alignment)
{
	struct engine *e = self()->e;

	if (size > e->launch->shared_bytes)
		stop(e, "%zu bytes of shared memory are used, the launch gave %zu", size, e->launch->shared_bytes);
	if (alignment > 1024)
		stop(e, "shared memory is aligned to 1024 bytes, not to %zu", alignment);
	return e->shared;
}

static void
begin_block(struct engine *e, size_t number)
{
	const dim3 grid = e->launch->grid;

	e->block.index = { (unsigned)(number % grid.x), (unsigned)(number / grid.x % grid.y),
		(unsigned)(number / grid.x / grid.y) };
	e->n_ended = e->n_at_barrier = e->barriers = 0;
	e->set ^= 1;
	memset(e->shared, POISON, e->launch->shared_bytes);
	for (unsigned i = 0; i < e->n_warps; i++) {
		e->warps[i].live = e->warps[i].all;
		e->warps[i].open = NULL;
	}
	for (unsigned i = 0; i < e->n_threads; i++) {
		struct fiber *f = &e->fibers[i];

		f->stack = NULL;
		/* by the host: who creates one is ordered before it */
		if (EMU_TSAN && !e->tsan[e->set][i])
			e->tsan[e->set][i] = __tsan_create_fiber(0);
		f->tsan = e->tsan[e->set][i];
		f->ended = false;
		f->generation = f->first_copy = f->n_copies = f->group = 0;
		f->first_product = f->n_products = f->product_group = 0;
		f->fenced = f->unfenced = false;
		f->waits = NULL;
	}
	begin_round(e);
}

static void
run_block(struct engine *e, size_t number)
{
	struct fiber *first;

	begin_block(e, number);
	__tsan_release(&e->begin);
	first = pick(e);
	take_stack(e, first);
	emu_now = first;
#if EMU_ASAN
	e->host_stack = NULL;
	__sanitizer_start_switch_fiber(&e->host_fake, first->stack, STACK_BYTES);
#endif
	__tsan_switch_to_fiber(first->tsan, NO_ORDER);
	jump(&e->host, &first->at);
#if EMU_ASAN
	__sanitizer_finish_switch_fiber(e->host_fake, NULL, NULL);
#endif
	emu_now = NULL;
}

/* All stacks are free. */
static void
free_stacks(struct engine *e)
{
	e->n_free = EMU_MOST_THREADS;
	for (unsigned i = 0; i < EMU_MOST_THREADS; i++) {
		e->free_stacks[i] = stack_of(e, 0, EMU_MOST_THREADS - 1 - i);
		san_open(e->free_stacks[i], STACK_BYTES);
	}
}

static struct engine *
engine_new(void)
{
	const size_t n_stacks = EMU_MOST_THREADS * (EMU_TSAN ? 2 : 1), n = n_stacks * (STACK_BYTES + GUARD_BYTES);
	void *p = mmap(NULL, sizeof(struct engine), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	void *stacks = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	struct engine *e = static_cast<struct engine *>(p);

	if (p == MAP_FAILED || stacks == MAP_FAILED)
		return NULL; /* what was mapped stays: there is no memory, and the program ends */
	e->stacks = static_cast<char *>(stacks);
	for (size_t i = 0; i < n_stacks; i++)
		mprotect(e->stacks + i * (STACK_BYTES + GUARD_BYTES), GUARD_BYTES, PROT_NONE);
	free_stacks(e);
	return e;
}

static void
begin_launch(struct engine *e, const struct emu_launch *l, uint64_t number)
{
	const uint64_t seed = emu_seed();

	e->launch = l;
	e->block.block_dim = l->block;
	e->block.grid_dim = l->grid;
	e->in_order = seed == 0;
	e->random.state = seed * 0x9E3779B97F4A7C15u + number;
	e->late_copies = EMU_TSAN || e->in_order || emu_draw(&e->random, 2);
	e->failed = false;
	e->host_tsan = __tsan_get_current_fiber();
	if (EMU_TSAN && !e->janitor)
		e->janitor = __tsan_create_fiber(0);
	e->n_threads = l->block.x * l->block.y * l->block.z;
	e->n_warps = (e->n_threads + WARP - 1) / WARP;
	for (unsigned i = 0; i < e->n_warps; i++) {
		const unsigned n = e->n_threads - i * WARP;

		e->warps[i].lanes = &e->fibers[i * WARP];
		e->warps[i].all = n >= WARP ? ~(uint32_t)0 : ((uint32_t)1 << n) - 1;
	}
	for (unsigned i = 0; i < e->n_threads; i++) {
		struct fiber *f = &e->fibers[i];

		f->index = { i % l->block.x, i / l->block.x % l->block.y, i / l->block.x / l->block.y };
		f->lane = i % WARP;
		f->block = &e->block;
		f->e = e;
		f->copies = e->copies[i];
		f->products = e->products[i];
		f->warp = &e->warps[i / WARP];
	}
}

int
emu_arch(void)
{
	const char *s = getenv("DF_EMU_ARCH");

	return s && *s ? atoi(s) : 90;
}

/* CUDA C++ Programming Guide, compute capabilities: "maximum amount of shared memory per thread block". */
size_t
emu_most_shared(void)
{
	const int arch = emu_arch();

	return (size_t)(arch == 80 ? 163 : arch == 86 || arch == 89 || arch == 120 ? 99 : 227) << 10;
}

int
emu_check_launch(const struct emu_launch *l, struct df_err *err)
{
	const dim3 g = l->grid, b = l->block;

	if (!g.x || !g.y || !g.z || g.x > 0x7fffffff || g.y > 65535 || g.z > 65535)
		return df_fail(err, DF_EDEVICE, "kernel %s: a grid of (%u,%u,%u) blocks", l->name, g.x, g.y, g.z);
	if (!b.x || !b.y || !b.z || b.x > 1024 || b.y > 1024 || b.z > 64 ||
	    (uint64_t)b.x * b.y * b.z > EMU_MOST_THREADS)
		return df_fail(err, DF_EDEVICE, "kernel %s: a block of (%u,%u,%u) threads", l->name, b.x, b.y, b.z);
	if (l->shared_bytes > emu_most_shared())
		return df_fail(err, DF_EDEVICE, "kernel %s: %zu bytes of shared memory in a block; there are %zu", l->name,
		    l->shared_bytes, emu_most_shared());
	return DF_OK;
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct engine *the_engine; /* under `lock`, as all below */
static uint64_t n_launches;

static size_t
gcd(size_t a, size_t b)
{
	while (b) {
		const size_t r = a % b;

		a = b;
		b = r;
	}
	return a;
}

/*
 * A block's shared memory and what orders its threads.  Under TSan they are new for each block, else blocks would seem
 * to share memory; behind the block is a canary.
 */
static bool
new_shared(struct engine *e)
{
	const size_t n = e->launch->shared_bytes;
	void *p = NULL;

	if (posix_memalign(&p, 1024, n + CANARY_BYTES ? n + CANARY_BYTES : 1) != 0)
		return false;
	e->shared = static_cast<char *>(p);
	memset(e->shared + n, CANARY, CANARY_BYTES);
	e->edges = static_cast<struct edges *>(malloc(sizeof(*e->edges)));
	return e->edges;
}

/* By a context of its own, which knows that the block has ended; the host's must not, before all have. */
static void
free_shared(struct engine *e)
{
	if (e->janitor)
		__tsan_switch_to_fiber(e->janitor, NO_ORDER);
	if (e->edges)
		__tsan_acquire(&e->edges->end);
	free(e->shared);
	free(e->edges);
	e->shared = NULL;
	e->edges = NULL;
	__tsan_release(&e->end);
	if (e->janitor)
		__tsan_switch_to_fiber(e->host_tsan, NO_ORDER);
}

static void
check_canary(struct engine *e)
{
	for (size_t i = 0; i < CANARY_BYTES && !e->failed; i++)
		if (e->shared[e->launch->shared_bytes + i] != (char)CANARY) {
			const dim3 b = e->block.index;

			e->failed = true;
			snprintf(e->message, sizeof(e->message),
			    "kernel %s, block (%u,%u,%u): bytes behind its %zu of shared memory were written", e->launch->name,
			    b.x, b.y, b.z, e->launch->shared_bytes);
		}
}

/* Nobody will go on where they stopped. */
static void
abandon(struct engine *e)
{
	free_stacks(e);
	for (unsigned set = 0; set < 2; set++)
		for (unsigned i = 0; i < EMU_MOST_THREADS; i++)
			if (e->tsan[set][i]) {
				__tsan_destroy_fiber(e->tsan[set][i]);
				e->tsan[set][i] = NULL;
			}
}

/* Blocks in the order at, at + step, ...: all of them, where step and n have no common factor. */
static void
draw_order(struct engine *e, size_t n, size_t *at, size_t *step)
{
	*at = 0;
	*step = 1;
	if (e->in_order)
		return;
	*at = emu_draw(&e->random, UINT32_MAX) % n;
	do
		*step = 1 + emu_draw(&e->random, UINT32_MAX) % n;
	while (gcd(*step, n) != 1);
}

int
emu_run(const struct emu_launch *l, struct df_err *err)
{
	const size_t n = (size_t)l->grid.x * l->grid.y * l->grid.z;
	struct engine *e;
	size_t at, step;
	int rc = DF_OK;

	pthread_mutex_lock(&lock);
	if (!the_engine)
		the_engine = engine_new();
	e = the_engine;
	if (!e) {
		rc = df_fail(err, DF_ENOMEM, "kernel %s: out of memory", l->name);
		goto out;
	}
	begin_launch(e, l, n_launches++);
	draw_order(e, n, &at, &step);
	for (size_t i = 0; i < n && rc == DF_OK; i++, at = (at + step) % n) {
		if (!e->shared && !new_shared(e)) {
			rc = df_fail(err, DF_ENOMEM, "kernel %s: out of memory", l->name);
			break;
		}
		run_block(e, at);
		check_canary(e);
		if (e->failed) {
			__tsan_acquire(&e->end);
			abandon(e);
			rc = df_fail(err, DF_EDEVICE, "%s", e->message);
		}
		if (EMU_TSAN)
			free_shared(e);
	}
	free_shared(e);
	__tsan_acquire(&e->end);
out:
	pthread_mutex_unlock(&lock);
	return rc;
}
