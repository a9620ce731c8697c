/*
 * emu.cc - seeds, blocks and grids.
 */
#include "backend/cuda/emu/engine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define CANARY       0xa5
#define CANARY_BYTES (EMU_ASAN ? (size_t)0 : (size_t)64)

/* ---- random numbers ---------------------------------------------------------------------------------------------- */

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

/* ---- blocks and grids -------------------------------------------------------------------------------------------- */

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
	fiber_new_round(e);
}

static struct engine *
engine_new(void)
{
	void *p = mmap(
	    NULL, sizeof(struct engine), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	if (!fiber_new_stacks(static_cast<struct engine *>(p))) {
		munmap(p, sizeof(struct engine));
		return NULL;
	}
	return static_cast<struct engine *>(p);
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
		return df_fail(err, DF_EDEVICE, "kernel %s: %zu bytes of shared memory in a block; there are %zu",
		    l->name, l->shared_bytes, emu_most_shared());
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
			    "kernel %s, block (%u,%u,%u): bytes behind its %zu of shared memory were written",
			    e->launch->name, b.x, b.y, b.z, e->launch->shared_bytes);
		}
}

/* Nobody will go on where they stopped. */
static void
abandon(struct engine *e)
{
	fiber_free_stacks(e);
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
		begin_block(e, at);
		__tsan_release(&e->begin);
		fiber_run_block(e);
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
