/*
 * fiber.cc - threads of a block as fibers of one thread of the host: how they switch, and who runs next.
 */
#include "backend/cuda/emu/engine.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define STACK_BYTES ((size_t)64 << 10)
#define GUARD_BYTES ((size_t)4 << 10) /* below each stack */

__thread emu_thread *emu_now;

/* ---- switching --------------------------------------------------------------------------------------------------- */

static void fiber_main(void);

#if EMU_ASM
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
 * A stack on which fiber_main() begins at the first switch.  At the entry of a function rsp is 8 below a multiple of
 * 16.  Tops are shifted against each other, so that stacks do not share the same few lines of the cache.
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

/* ---- faults ------------------------------------------------------------------------------------------------------ */

void
fiber_stop(struct engine *e, const char *fmt, ...)
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

const char *
emu_base_name(const char *path)
{
	const char *slash = path ? strrchr(path, '/') : NULL;

	return slash ? slash + 1 : path;
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

			if (g->ended != f->ended ||
			    (!f->ended &&
				(g->waits->kind != f->waits->kind || g->waits->file != f->waits->file ||
				    g->waits->line != f->waits->line)))
				break;
		}
		n += (size_t)snprintf(text + n, sizeof(text) - n, "%sthreads %u-%u ", n ? "; " : "", i, first - 1);
		if (f->ended)
			n += (size_t)snprintf(text + n, sizeof(text) - n, "have ended");
		else
			n += (size_t)snprintf(text + n, sizeof(text) - n, "wait in %s (%s:%d)",
			    emu_kind_name[f->waits->kind], emu_base_name(f->waits->file), f->waits->line);
	}
	fiber_stop(e, "threads wait for each other: %s", text);
}

/* ---- who runs next ----------------------------------------------------------------------------------------------- */

/* From a signal's handler. */
void
emu_say_fault(const char *text)
{
	const struct fiber *f = self();

	if (f) {
		const dim3 b = f->block->index;

		dprintf(2, "emulator: kernel %s, block (%u,%u,%u), thread (%u,%u,%u): fault at %s\n",
		    f->e->launch->name, b.x, b.y, b.z, f->index.x, f->index.y, f->index.z, text);
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

void
fiber_new_round(struct engine *e)
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

void
fiber_set_ready(struct engine *e, struct warp *w, uint32_t lanes)
{
	if (lanes == ~(uint32_t)0) /* the usual case */
		w->ready = lanes;
	else
		for (; lanes; lanes &= lanes - 1)
			w->ready |= (uint32_t)1 << w->lanes[__builtin_ctz(lanes)].turn;
	e->ready |= (uint32_t)1 << w->turn;
}

void
fiber_clear_ready(struct engine *e, const struct fiber *f)
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

void
fiber_wait(struct fiber *f)
{
	struct engine *e = f->e;
	struct fiber *next = pick(e);

	if (next == f)
		return;
	if (!next)
		stop_stuck(e);
	switch_to(e, f, next);
}

/* ---- a thread's life --------------------------------------------------------------------------------------------- */

static void
end_thread(struct fiber *f)
{
	struct engine *e = f->e;
	struct warp *w = f->warp;

	f->ended = true;
	e->n_ended++;
	w->live &= ~((uint32_t)1 << f->lane);
	fiber_clear_ready(e, f);
	/* Those that wait for this lane meet without it. */
	if (w->open && w->open->here == w->live)
		meeting_finish(e, w, w->open);
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

void
fiber_run_block(struct engine *e)
{
	struct fiber *first = pick(e);

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

void
fiber_free_stacks(struct engine *e)
{
	e->n_free = EMU_MOST_THREADS;
	for (unsigned i = 0; i < EMU_MOST_THREADS; i++) {
		e->free_stacks[i] = stack_of(e, 0, EMU_MOST_THREADS - 1 - i);
		san_open(e->free_stacks[i], STACK_BYTES);
	}
}

bool
fiber_new_stacks(struct engine *e)
{
	const size_t n = EMU_MOST_THREADS * (EMU_TSAN ? 2 : 1), each = STACK_BYTES + GUARD_BYTES;
	void *p = mmap(NULL, n * each, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return false;
	e->stacks = static_cast<char *>(p);
	for (size_t i = 0; i < n; i++)
		mprotect(e->stacks + i * each, GUARD_BYTES, PROT_NONE);
	fiber_free_stacks(e);
	return true;
}
