/*
 * engine.h - the emulator's own: what a block, its warps and its threads are while they run.
 */
#ifndef DF_BACKEND_CUDA_EMU_ENGINE_H
#define DF_BACKEND_CUDA_EMU_ENGINE_H

#include "backend/cuda/emu/emu.h"
#include "backend/cuda/emu/sanitize.h"

/* How fibers switch: by a few lines of assembly, or by swapcontext(3). */
#if defined(__x86_64__) && !defined(DF_EMU_UCONTEXT)
#define EMU_ASM 1
#else
#include <ucontext.h>
#define EMU_ASM 0
#endif

#define WARP 32
#define MOST_WARPS (EMU_MOST_THREADS / WARP)
#define MOST_COPIES 256 /* cp_async()s of a thread that are under way */
#define MOST_PRODUCTS 64 /* wgmma_bf16()s of a thread that are under way */
#define POISON 0xff     /* NaN in every float type, and an index that does not exist */

enum kind { SHUFFLE, BALLOT, SYNC_WARP, MMA, WGMMA, LDMATRIX, LDMATRIX_TRANSPOSED, SYNC_BLOCK };
extern const char *const emu_kind_name[];

/* Where all lanes of a warp, or all threads of a block, come to. */
struct meeting {
	enum kind kind;
	const char *file;
	int line;
	uint32_t here; /* lanes that came */
	uint32_t value[WARP];
	const void *arg[WARP];
};

struct context {
#if EMU_ASM
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

/* A thread's part of a product of a warpgroup that is under way: two rows of 64 columns. */
struct product {
	float *d;
	uint32_t a[4][4]; /* of the four lanes that have its rows */
	uint64_t b;
	unsigned group;
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

static inline struct fiber *
self(void)
{
	return static_cast<struct fiber *>(emu_now);
}

static inline unsigned
number_of(const struct fiber *f)
{
	return (unsigned)(f - f->e->fibers);
}

/* ---- fiber.cc: stacks, and who runs ------------------------------------------------------------------------------ */

/* The launch fails: the host goes on, and no thread of the block ever does. */
void fiber_stop(struct engine *e, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));
const char *emu_base_name(const char *path);

void fiber_new_round(struct engine *e); /* all live threads can run, in a new order */
void fiber_set_ready(struct engine *e, struct warp *w, uint32_t lanes);
void fiber_clear_ready(struct engine *e, const struct fiber *f);
void fiber_wait(struct fiber *f); /* until somebody has made it ready: others run */

bool fiber_new_stacks(struct engine *e);  /* false: out of memory */
void fiber_free_stacks(struct engine *e); /* nobody goes on where it stopped */
void fiber_run_block(struct engine *e);   /* to its end, or until fiber_stop() */

/* ---- meet.cc: what threads do together --------------------------------------------------------------------------- */

/* All lanes that live have come: do what is done once for all, and let them go on. */
void meeting_finish(struct engine *e, struct warp *w, struct meeting *m);

/* ---- wgmma.cc: products of a warpgroup ------------------------------------------------------------------------- */

struct wgmma_args {
	float *d;
	const uint32_t *a;
	uint64_t b;
};
/* All lanes of a warp have come to wgmma_bf16(). */
void wgmma_begin(struct engine *e, struct warp *w, const struct meeting *m);

#endif
