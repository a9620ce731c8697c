/*
 * gemm_mma.h - a product on tensor cores: m16n8k16 of bf16 with f32 sums.  For gemm.cu and segments.cu.
 *
 * Order of sums: an element has one accumulator, to which its products are added in steps of 16 of k, from 0 on.  So
 * neither the shape of a tile nor where a row lies among others changes a bit.  In sums over rows of both
 * (a^T b) the accumulator begins at zero again every MMA_RUN rows; the runs' sums are added in order, each times alpha
 * first, to beta c: so they may be computed by different blocks.
 *
 * A side that is bf16 and lies well is copied to shared memory beside the work (ASYNC); any other goes through
 * registers.  An f32 or f16 b is a sum of PARTS bf16 numbers, without rest: 3 of 8 bits make the 24 of a float (down to
 * 2^-110), 2 the 11 of f16.  Each part is multiplied in its turn, so products are exact and sums f32, as they would be
 * from b widened.  The parts of a number that is bf16 are zero from the second on, and a zero changes no sum: all ways
 * give the same bits.
 *
 * Shared memory.  A stage has MMA_STEP of k of each side in chunks of 8 numbers, in rows as in memory: of the vectors,
 * or (not ALONG) of k.  Chunk c of row r is at place c ^ (r's number among those of 128 bytes) of its row, so that the
 * 8 rows which ldmatrix reads at once are in different banks.
 */
#ifndef DF_BACKEND_CUDA_GEMM_MMA_H
#define DF_BACKEND_CUDA_GEMM_MMA_H

#include "backend/cuda/gemm.h"

enum { MMA_STEP = 32, MMA_RUN = 1024 };

/* A tile of ROWS x COLS, each warp's part of it, and the stages of shared memory. */
template <int R, int C, int WR, int WC, int N> struct mma_shape {
	enum { ROWS = R, COLS = C, WARP_ROWS = WR, WARP_COLS = WC, STAGES = N };
	enum { ACROSS = COLS / WARP_COLS, THREADS = ROWS / WARP_ROWS * ACROSS * 32 };
};

typedef mma_shape<128, 128, 64, 32, 3> mma_128x128;
typedef mma_shape<64, 128, 32, 64, 4> mma_64x128;
typedef mma_shape<64, 64, 32, 32, 4> mma_64x64;
typedef mma_shape<32, 64, 16, 32, 6> mma_32x64; /* these are for few rows: what counts is how much is under way */
typedef mma_shape<64, 32, 16, 32, 6> mma_64x32;
typedef mma_shape<64, 64, 32, 32, 3> mma_64x64_parts; /* b has PARTS times the memory */
typedef mma_shape<32, 64, 16, 32, 3> mma_32x64_parts;
typedef mma_shape<64, 32, 16, 32, 3> mma_64x32_parts;

struct alignas(16) chunk {
	uint16_t v[8];
};
template <class S, int PARTS> struct mma_shared {
	chunk a[S::STAGES][S::ROWS * MMA_STEP / 8];
	chunk b[S::STAGES][PARTS][S::COLS * MMA_STEP / 8];
};

/* Where chunk `col` of row `row` is, of rows of ACROSS chunks. */
template <int ACROSS>
DF_DEVICE unsigned
chunk_at(unsigned row, unsigned col)
{
	return row * ACROSS + (col ^ (ACROSS >= 8 ? row % 8 : row / (8 / ACROSS) % ACROSS));
}

/* May the side be copied as it is? */
static inline bool
mma_is_async(const side &s, size_t k)
{
	return s.type == DF_BF16 && s.wide && (s.along ? k : s.n) % 8 == 0;
}

/*
 * Which tile is soonest done: that of the least waves of blocks, two to a processor, each wave as long as its tile is
 * large, but a small one takes longer for its size, as it reads more for each product.  No result depends on it.
 */
enum gemm_tile { GEMM_128x128, GEMM_64x128, GEMM_64x64, GEMM_32x64, GEMM_64x32 };
static inline enum gemm_tile
gemm_tile_of(size_t products, size_t m, size_t n, size_t processors)
{
	static const struct {
		size_t rows, cols;
		double cost;
	} tile[] = { { 128, 128, 1 }, { 64, 128, 0.55 }, { 64, 64, 0.35 }, { 32, 64, 0.25 }, { 64, 32, 0.24 } };
	size_t best = 0;
	double least = 0;

	for (size_t i = 0; i < sizeof(tile) / sizeof(tile[0]); i++) {
		const size_t tiles = products * df_blocks_of(m, tile[i].rows) * df_blocks_of(n, tile[i].cols);
		const double time = (double)df_blocks_of(tiles, 2 * processors) * tile[i].cost;

		if (i == 0 || time < least) {
			best = i;
			least = time;
		}
	}
	return (enum gemm_tile)best;
}

/* ---- a side, as it comes --------------------------------------------------------------------------------------- */

/* v without what its first 8 bits say; *bits is those as bf16.  Infinite: nothing is left. */
DF_DEVICE float
split(float v, uint16_t *bits)
{
	const uint32_t all = float_bits(v);

	*bits = (uint16_t)(all >> 16);
	return (all << 1) == 0xff000000u ? 0.0f : v - of_bf16(*bits);
}

template <int N, bool ALONG, int PARTS, bool ASYNC, int THREADS> struct mma_side {
	enum {
		CHUNKS = N * MMA_STEP / 8,
		EACH = (CHUNKS + THREADS - 1) / THREADS,
		ACROSS = ALONG ? MMA_STEP / 8 : N / 8
	};
	enum { APART = THREADS / ACROSS }; /* rows from one of a thread's chunks to the next: they have one column */
	static_assert(APART % 8 == 0, "and one place in their rows");

	size_t at;        /* the element with which this thread's first chunk begins, at the next step */
	size_t vector, k; /* the vector and the k of that element */
	float v[EACH][8]; /* !ASYNC: on their way */

	DF_MEMBER static bool has(unsigned i) { return CHUNKS % THREADS == 0 || threadIdx.x + i * THREADS < CHUNKS; }
	DF_MEMBER static unsigned
	place(unsigned i)
	{
		return chunk_at<ACROSS>(threadIdx.x / ACROSS, threadIdx.x % ACROSS) + i * APART * ACROSS;
	}

	DF_MEMBER void
	begin(const side &s, size_t first)
	{
		const unsigned row = threadIdx.x / ACROSS, col = threadIdx.x % ACROSS * 8;

		vector = first + (ALONG ? row : col);
		k = ALONG ? col : row;
		at = (ALONG ? vector : k) * s.ld + (ALONG ? k : vector);
	}
	/* The elements of chunk i that there are: some or all of 8. */
	DF_MEMBER size_t
	there(const side &s, size_t k_end, unsigned i) const
	{
		const size_t row = (ALONG ? vector : k) + i * APART, rows = ALONG ? s.n : k_end;
		const size_t col = ALONG ? k : vector, cols = ALONG ? k_end : s.n;

		return row < rows && col < cols ? cols - col : 0;
	}
	/* Ask for the next step; ASYNC: into `to`. */
	DF_MEMBER void
	ask(chunk *to, const side &s, size_t k_end)
	{
#pragma unroll
		for (unsigned i = 0; i < EACH; i++) {
			const size_t n = there(s, k_end, i), from = at + i * APART * s.ld;

			if (!has(i))
				continue;
			if constexpr (ASYNC) {
				cp_async(to + place(i), static_cast<const uint16_t *>(s.p) + from, n > 0);
			} else {
				const quad low = side_quad(s, from, n);
				const quad high = side_quad(s, from + 4, n > 4 ? n - 4 : 0);

				for (int j = 0; j < 4; j++) {
					v[i][j] = low.v[j];
					v[i][j + 4] = high.v[j];
				}
			}
		}
		at += ALONG ? (size_t)MMA_STEP : MMA_STEP * s.ld;
		k += MMA_STEP;
	}
	/* What was asked for is in `to`, part by part, N * MMA_STEP / 8 chunks each; ASYNC: it comes by itself. */
	DF_MEMBER void
	put(chunk *to)
	{
		if constexpr (!ASYNC) {
#pragma unroll
			for (unsigned i = 0; i < EACH; i++)
				for (int part = 0; part < PARTS && has(i); part++) {
					chunk c;

					for (int j = 0; j < 8; j++)
						v[i][j] = split(v[i][j], &c.v[j]);
					to[part * CHUNKS + place(i)] = c;
				}
		}
	}
};

/* ---- a warp's part --------------------------------------------------------------------------------------------- */

/*
 * 16 vectors x 16 of k, from shared memory, as mma_bf16() takes a: r[0] vectors 0..7, r[1] 8..15, of the first 8 of k,
 * r[2] and r[3] of the others.  As b, { r[0], r[2] } are the first 8 vectors and { r[1], r[3] } the others.
 */
template <int N, bool ALONG>
DF_DEVICE void
fragment(uint32_t r[4], const chunk *from, unsigned vector, unsigned k)
{
	const unsigned lane = lane_id(), v = vector + lane / 8 % 2 * 8, l = k + lane / 16 * 8;

	if (ALONG)
		ldmatrix(r, from + chunk_at<MMA_STEP / 8>(v + lane % 8, l / 8));
	else
		ldmatrix_transposed(r, from + chunk_at<N / 8>(l + lane % 8, v / 8));
}

template <class S> struct warp_sums {
	enum { DOWN = S::WARP_ROWS / 16, ACROSS = S::WARP_COLS / 8 };
	float d[DOWN][ACROSS][4];
};

template <class S, bool A_ALONG, bool B_ALONG, int PARTS>
DF_DEVICE void
mma_step(warp_sums<S> &sums, const mma_shared<S, PARTS> &s, unsigned stage, unsigned row, unsigned col)
{
	typedef warp_sums<S> W;

#pragma unroll
	for (unsigned k = 0; k < MMA_STEP; k += 16) {
		uint32_t a[W::DOWN][4];

#pragma unroll
		for (unsigned i = 0; i < W::DOWN; i++)
			fragment<S::ROWS, A_ALONG>(a[i], s.a[stage], row + 16 * i, k);
#pragma unroll
		for (int part = 0; part < PARTS; part++) {
#pragma unroll
			for (unsigned j = 0; j < W::ACROSS; j += 2) {
				uint32_t b[4];

				fragment<S::COLS, B_ALONG>(b, s.b[stage][part], col + 8 * j, k);
				const uint32_t first[2] = { b[0], b[2] }, second[2] = { b[1], b[3] };
#pragma unroll
				for (unsigned i = 0; i < W::DOWN; i++) {
					mma_bf16(sums.d[i][j], a[i], first);
					mma_bf16(sums.d[i][j + 1], a[i], second);
				}
			}
		}
	}
}

/* ---- a tile ---------------------------------------------------------------------------------------------------- */

/* 16 rows of each warp's sums, in the memory of the stages: as rows they are brought to c, 16 bytes by 16. */
template <class S> struct mma_rows {
	enum { WIDE = S::WARP_COLS / 4 };
	quad v[S::THREADS / 32][16][WIDE + 1];
};
/* The warp's part of c begins at (i0,j0). */
template <class S>
DF_DEVICE void
end_product(const product &p, const warp_sums<S> &sums, size_t i0, size_t j0, mma_rows<S> &rows)
{
	typedef mma_rows<S> R;
	quad(&out)[16][R::WIDE + 1] = rows.v[threadIdx.x / 32];
	const unsigned lane = lane_id(), row = lane / 4, col = lane % 4 * 2;

	sync_block(); /* the last stage's readers */
#pragma unroll
	for (unsigned i = 0; i < warp_sums<S>::DOWN; i++) {
		sync_warp();
#pragma unroll
		for (unsigned j = 0; j < warp_sums<S>::ACROSS; j++)
#pragma unroll
			for (unsigned l = 0; l < 4; l++)
				out[row + l / 2 * 8][(8 * j + col) / 4].v[col % 4 + l % 2] = sums.d[i][j][l];
		sync_warp();
#pragma unroll 1
		for (unsigned q = lane; q < 16 * R::WIDE; q += 32) {
			const size_t r = i0 + 16 * i + q / R::WIDE, c = j0 + q % R::WIDE * 4;

			set_c(p, blended(p, out[q / R::WIDE][q % R::WIDE], r, c), r, c);
		}
	}
}

/*
 * The tile of c from row i0 and column j0 on; all threads of the block come.  A_ASYNC, B_ASYNC: the side is bf16 and
 * wide, and the number of its elements that lie side by side is a multiple of 8 (mma_is_async()).
 */
template <class S, bool A_ALONG, bool B_ALONG, int PARTS, bool A_ASYNC, bool B_ASYNC>
DF_DEVICE void
mma_tile(const product &p, size_t i0, size_t j0, mma_shared<S, PARTS> &s)
{
	static_assert(sizeof(mma_rows<S>) <= sizeof(s), "they lie in the same memory");
	const unsigned warp = threadIdx.x / 32;
	const unsigned row = warp / S::ACROSS * S::WARP_ROWS, col = warp % S::ACROSS * S::WARP_COLS;
	mma_side<S::ROWS, A_ALONG, 1, A_ASYNC, S::THREADS> a;
	mma_side<S::COLS, B_ALONG, PARTS, B_ASYNC, S::THREADS> b;
	warp_sums<S> sums = {};
	size_t asked = 0;
	unsigned now = 0, last = S::STAGES - 1; /* stages: the one that is used, and the one before it */

	a.begin(p.a, i0);
	b.begin(p.b, j0);
	for (unsigned stage = 0; stage < S::STAGES - 1; stage++) {
		if (asked < p.k) {
			a.ask(s.a[stage], p.a, p.k);
			b.ask(s.b[stage][0], p.b, p.k);
			a.put(s.a[stage]);
			b.put(s.b[stage][0]);
		}
		asked += MMA_STEP;
		cp_async_commit();
	}
	for (size_t k = 0; k < p.k; k += MMA_STEP) {
		const bool more = asked < p.k;

		cp_async_wait<S::STAGES - 2>();
		sync_block(); /* this stage has come, and the one before it is not read any more */
		if (more) {
			a.ask(s.a[last], p.a, p.k);
			b.ask(s.b[last][0], p.b, p.k);
		}
		cp_async_commit();
		mma_step<S, A_ALONG, B_ALONG, PARTS>(sums, s, now, row, col);
		if (more) {
			a.put(s.a[last]);
			b.put(s.b[last][0]);
		}
		asked += MMA_STEP;
		last = now;
		now = now + 1 < S::STAGES ? now + 1 : 0;
	}
	end_product(p, sums, i0 + row, j0 + col, *reinterpret_cast<mma_rows<S> *>(&s));
}

/*
 * The same for a sum over rows of both sides, run by run.  Between runs the sums are in c, which the thread that wrote
 * them reads again: without loss where c is f32, and where it is not there must be one run only.
 */
template <class S, int PARTS, bool ASYNC>
DF_DEVICE void
mma_rows_tile(const product &p, size_t i0, size_t j0, mma_shared<S, PARTS> &s)
{
	for (size_t k = 0; k == 0 || k < p.k; k += MMA_RUN) {
		product run = of_rows(p, k, smaller(k + MMA_RUN, p.k));

		if (k > 0) {
			run.beta = 1;
			sync_block(); /* the last run's readers */
		}
		mma_tile<S, false, false, PARTS, ASYNC, ASYNC>(run, i0, j0, s);
	}
}

#endif
