/*
 * wgmma.cc - products of a warpgroup: they run beside, read shared memory through a descriptor, and ask for fences.
 */
#include "backend/cuda/emu/engine.h"

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
		fiber_stop(e, "wgmma_bf16: the descriptor %#llx is not of rows of 128 bytes, swizzled, at a multiple of 1024",
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

/* Each lane keeps what it needs of its neighbours' registers, which they may write once the product is under way. */
void
wgmma_begin(struct engine *e, struct warp *w, const struct meeting *m)
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
async_fence(void)
{
	self()->unfenced = false;
}

void
wgmma_fence(void)
{
	self()->fenced = true;
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
