/*
 * combine.c - the policy gradients of a block of prompts.
 *
 * The rows of a prompt become one before anything else is done with them: of each block of their gradients only the
 * weighted sum is projected or kept.  So a prompt costs one projection, however many completions it has.
 *
 *     block [rows, n] --weights--> [prompts, n] --+--> added to the prompts' gradients    (gradients)
 *                                                 +--> added to their projections         (projections)
 *
 * A prompt's sum is made of its rows alone, in their order: the other prompts of a block change no bit of it.  A prompt
 * with more rows than fit is added up over several batches.
 */
#include <string.h>

#include "base/mem.h"
#include "grad/grad_priv.h"

/* sums [prompts, n] = of the block's rows. */
static int
add_up(struct df_grad_lane *l, struct df_tensor g, struct df_tensor sums, struct df_err *err)
{
	const size_t *begin = l->batch->begin, end = l->first_row + l->n_rows;
	int rc = DF_OK;

	for (size_t i = 0; i < l->n_prompts; i++) {
		const size_t prompt = l->first_prompt + i;
		const size_t from = begin[prompt] > l->first_row ? begin[prompt] : l->first_row;
		const size_t to = begin[prompt + 1] < end ? begin[prompt + 1] : end;
		const struct df_tensor sum = df_tensor_rows(sums, i, 1);

		if (to <= from)
			DF_TRY(df_fill(l->g->be, sum, 0, err));
		else
			DF_TRY(df_gemm(l->g->be,
			    &(struct df_gemm){ .alpha = 1,
				.a = df_tensor_cols(l->weight, from - l->first_row, to - from),
				.b = df_tensor_rows(g, from - l->first_row, to - from),
				.c = sum },
			    err));
	}
out:
	return rc;
}

/* Add the sums to the gradients in the output. */
static int
keep_sums(struct df_grad_lane *l, struct df_tensor sums, size_t offset, struct df_err *err)
{
	const size_t n = sums.cols;
	int rc;

	DF_TRY(df_grow(&l->block, &l->block_cap, sums.rows * n, sizeof(*l->block), "a block of gradients", err));
	DF_TRY(df_download(l->g->be, l->block, sums, err));
	for (size_t i = 0; i < sums.rows; i++) {
		float *to = l->raw + (l->first_prompt + i) * l->g->p + offset;

		for (size_t c = 0; c < n; c++)
			to[c] += l->block[i * n + c];
	}
out:
	return rc;
}

static int
sink(void *ctx, const struct df_grad_block *block, struct df_err *err)
{
	struct df_grad_lane *l = ctx;
	struct df_projection part = l->projection;
	const size_t n = block->g.cols;
	struct df_tensor sums;
	int rc;

	if (df_tensor_numel(l->sum) < l->n_prompts * n) {
		df_tensor_free(l->g->be, &l->sum);
		DF_TRY(df_tensor_alloc(l->g->be, &l->sum, DF_F32, 1, l->n_prompts * n, "sums of gradients", err));
	}
	sums = df_tensor_view(l->sum, 0, l->n_prompts, n);
	DF_TRY(add_up(l, block->g, sums, err));
	if (l->raw)
		return keep_sums(l, sums, block->offset, err);
	part.y = df_tensor_rows(part.y, l->first_prompt, l->n_prompts);
	rc = df_projection_add(&part, sums, block->offset, block->piece, err);
out:
	return rc;
}

/* Rows [first, first+n) of the block through the model; they belong to prompts [l->first_prompt, + l->n_prompts). */
static int
run_rows(struct df_grad_lane *l, size_t first, size_t n, struct df_arena *arena, struct df_err *err)
{
	const struct df_tokens *all = &l->batch->tokens;
	const uint64_t base = all->offsets[first];
	struct df_tokens rows = { .n = n, .ids = all->ids + base, .mask = all->mask + base };
	uint64_t *offsets;
	int rc;

	l->first_row = first;
	l->n_rows = n;
	DF_TRY(df_arena_alloc(arena, &offsets, n + 1, sizeof(*offsets), "completions", err));
	for (size_t i = 0; i <= n; i++)
		offsets[i] = all->offsets[first + i] - base;
	rows.offsets = offsets;
	if (l->weight.cols < n) {
		df_tensor_free(l->g->be, &l->weight);
		DF_TRY(df_tensor_alloc(l->g->be, &l->weight, DF_F32, 1, n, "weights", err));
	}
	DF_TRY(df_upload(l->g->be, df_tensor_cols(l->weight, 0, n), l->batch->weight + first, err));
	rc = df_model_sample_grads(l->g->model, l->work, &rows, sink, l, &(struct df_losses){ NULL }, err);
out:
	return rc;
}

/* The first row after `first`, up to end, that no longer fits with it. */
static size_t
rows_that_fit(const struct df_grad *g, const struct df_policy_batch *b, size_t first, size_t end)
{
	const uint64_t *off = b->tokens.offsets;
	uint64_t max_tokens, max_rows;
	size_t i = first + 1;

	df_grad_batch_limits(g, &max_tokens, &max_rows);
	while (i < end && i - first < max_rows && off[i + 1] - off[first] <= max_tokens)
		i++;
	return i;
}

/* Whole prompts as long as they fit; one that does not fit alone, in parts. */
static int
run_prompts(struct df_grad_lane *l, struct df_arena *arena, struct df_err *err)
{
	const struct df_policy_batch *b = l->batch;
	int rc = DF_OK;

	for (size_t i = 0, next; i < b->n; i = next) {
		const size_t first = b->begin[i];

		next = i + 1;
		if (b->begin[next] == first)
			continue;
		while (next < b->n && rows_that_fit(l->g, b, first, b->begin[next + 1]) == b->begin[next + 1])
			next++;
		l->first_prompt = i;
		l->n_prompts = next - i;
		for (size_t row = first, end; row < b->begin[next]; row = end) {
			end = rows_that_fit(l->g, b, row, b->begin[next]);
			DF_TRY(run_rows(l, row, end - row, arena, err));
		}
	}
out:
	return rc;
}

static void
find_flaws(const struct df_policy_batch *b, const struct df_batch *out, const struct df_column_data *rows,
    struct df_grad_flaws *f)
{
	const uint64_t *id = out->col[DF_COL_ID].data;

	*f = (struct df_grad_flaws){ 0 };
	for (size_t i = 0; i < b->n; i++) {
		if (b->begin[i] == b->begin[i + 1]) {
			f->n_unlabelled++;
		} else if (df_grad_not_finite((const float *)rows->data + i * rows->width, rows->width)) {
			if (!f->n_not_finite)
				f->first_not_finite = id[i];
			f->n_not_finite++;
		}
	}
}

int
df_grad_policy_block(struct df_grad_lane *l, const struct df_policy *p, const struct df_policy_batch *in,
    struct df_batch *out, struct df_grad_flaws *flaws, struct df_err *err)
{
	const struct df_grad *g = l->g;
	const bool raw = g->o.output == DF_GRAD_RAW;
	struct df_column_data rows = { .width = raw ? g->p : g->o.projector.k };
	float *v = NULL;
	size_t numel;
	int rc;

	df_batch_clear(out);
	out->n = in->n;
	out->first = in->first;
	out->col[DF_COL_ID] = (struct df_column_data){ .data = p->id + in->first, .width = 1 };
	if (p->domain)
		out->col[DF_COL_DOMAIN] = (struct df_column_data){ .data = p->domain + in->first, .width = 1 };
	out->col[DF_COL_N_TOKENS] = (struct df_column_data){ .data = in->n_targets, .width = 1 };
	DF_TRY(df_size_mul(in->n, rows.width, &numel, "gradients", err));
	DF_TRY(df_arena_alloc(&out->arena, &v, numel, sizeof(*v), "gradients", err));
	memset(v, 0, numel * sizeof(*v));
	rows.data = v;
	l->batch = in;
	l->raw = raw ? v : NULL;
	if (!raw)
		DF_TRY(df_projection_begin(&l->projection, &g->o.projector, g->be, in->n, err));
	DF_TRY(run_prompts(l, &out->arena, err));
	if (!raw)
		DF_TRY(df_projection_end(&l->projection, v, err));
	out->col[raw ? DF_COL_GRADIENT : DF_COL_PROJECTION] = rows;
	find_flaws(in, out, &rows, flaws);
out:
	return rc;
}
