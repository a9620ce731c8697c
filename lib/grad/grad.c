/*
 * grad.c - a block's losses, gradients, projections, or router loads.
 *
 * The backward hands out blocks of per-sample gradients, the last coordinates first.  For each block
 * this sink does what the output needs:
 *
 *     block [S, n] --form--> in place --+--> side by side in [S, p]     (gradients)
 *                                       +--> added to the projections   (projections)
 *
 * df-project takes the same pieces of blocks out of stored gradients in the same order.  So the numbers are the
 * same bits, whether df-grad projects them at once or df-project reads them from df-grad's output.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "grad/grad_priv.h"

static bool
has_gradients(const struct df_grad *g)
{
	return g->o.output == DF_GRAD_RAW || g->o.output == DF_GRAD_PROJECTED;
}

/* ---- opening ------------------------------------------------------------------- */

static int
load_moments(struct df_grad *g, struct df_err *err)
{
	int rc = df_moments_load(&g->moments, g->model, g->o.model, err);

	if (rc == DF_ENOINPUT && g->o.allow_zero_state) {
		df_warn(
		    "%s: no optimiser state: with moments of zero Adam's form is the sign of the gradient", g->o.model);
		return df_moments_init(&g->moments, g->model, err);
	}
	if (rc != DF_OK)
		return rc;
	if (!g->moments.step && !g->o.allow_zero_state)
		return df_fail(err, DF_EFORMAT,
		    "%s: the optimiser has made no step: Adam's form would be a sign of the gradient; train first, use "
		    "--form sgd, or accept it with --allow-zero-state",
		    g->o.model);
	if (g->moments.n_without > 0 && !g->o.allow_zero_state)
		return df_fail(err, DF_EFORMAT,
		    "%s: %llu parameters have no moments: they never had a gradient, and Adam's form of theirs would be a "
		    "sign; train longer, use --form sgd, or accept it with --allow-zero-state",
		    g->o.model, (unsigned long long)g->moments.n_without);
	return DF_OK;
}

int
df_grad_open(struct df_grad **out, const struct df_grad_opts *o, struct df_backend *be, struct df_err *err)
{
	struct df_digest d = { 0 };
	struct df_grad *g = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&g, 1, sizeof(*g), "df_grad", err));
	g->o = *o;
	g->be = be;
	if (o->output == DF_GRAD_PROJECTED)
		DF_TRY(df_projector_check(&o->projector, err));
	DF_TRY(df_model_open(&g->model, o->model, o->base, be, err));
	if (o->output == DF_GRAD_LOADS && df_model_config(g->model)->moe.n_experts == 0) {
		rc = df_fail(err, DF_EUNSUPPORTED, "%s: the model is dense: it has no experts that tokens are sent to",
		    o->model);
		goto out;
	}
	g->p = df_model_train(g->model)->numel;
	DF_TRY(df_model_digest(g->model, &d, err));
	df_digest_hex(d, g->checkpoint);
	df_digest_hex(df_params_digest(df_model_train(g->model)), g->manifest);
	if (o->form == DF_GRAD_ADAM && has_gradients(g))
		DF_TRY(load_moments(g, err));
	*out = g;
	g = NULL;
out:
	df_grad_close(g);
	return rc;
}

void
df_grad_close(struct df_grad *g)
{
	if (!g)
		return;
	if (!df_tensor_is_none(g->moments.m))
		df_moments_release(&g->moments, g->model);
	df_model_free(g->model);
	free(g);
}

/* ---- lineage ------------------------------------------------------------------------ */

/* Every option that changes the numbers; the projector's come after them, here or in df-project. */
static int
form_to_meta(const struct df_grad *g, struct df_meta *m, struct df_err *err)
{
	static const char *const forms[] = { DF_GRAD_FORMS };
	int rc = DF_OK;

	DF_TRY(df_meta_set_str(m, "form", g->o.policy.rewards ? "policy" : forms[g->o.form], err));
	if (g->o.policy.rewards)
		DF_TRY(df_policy_to_meta(&g->o.policy, m, err));
	if (g->o.form == DF_GRAD_ADAM) {
		DF_TRY(df_meta_set_str(m, "adam_eps", g->o.eps_inside ? "inside" : "outside", err));
		DF_TRY(df_meta_set_double(m, "beta1", g->moments.beta1, err));
		DF_TRY(df_meta_set_double(m, "beta2", g->moments.beta2, err));
		DF_TRY(df_meta_set_double(m, "eps", g->moments.eps, err));
	}
	DF_TRY(df_meta_set_str(m, "manifest", g->manifest, err));
out:
	return rc;
}

/* A policy gradient needs completions of this very policy. */
static int
check_policy(const struct df_grad *g, const struct df_meta *tokens, const char *name, struct df_err *err)
{
	const struct df_input *from = df_meta_input(tokens, "checkpoint");

	if (!from || strcmp(from->id, g->checkpoint) == 0)
		return DF_OK;
	if (!g->o.policy.off_policy)
		return df_fail(err, DF_ELINEAGE,
		    "%s was drawn from checkpoint %s, but %s is %s: draw from the checkpoint whose gradient is taken, or "
		    "accept it with --off-policy",
		    name, from->id, g->o.model, g->checkpoint);
	df_warn("%s was drawn from another checkpoint than %s: its gradients are not those of the expected reward",
	    name, g->o.model);
	return DF_OK;
}

/* What the rows are. */
static int
tokens_to_meta(const struct df_grad *g, const struct df_meta *tokens, struct df_meta *m, struct df_err *err)
{
	const struct df_input *prompts = df_meta_input(tokens, "prompts");
	int rc = DF_OK;

	if (!g->o.policy.rewards)
		return tokens->id[0] ? df_meta_add_input(m, "tokens", "tokens", tokens->id, err) : DF_OK;
	if (prompts)
		DF_TRY(df_meta_add_input(m, "tokens", prompts->kind, prompts->id, err));
	if (tokens->id[0])
		DF_TRY(df_meta_add_input(m, "completions", df_kind_name(tokens->kind), tokens->id, err));
out:
	return rc;
}

int
df_grad_meta(
    const struct df_grad *g, const struct df_meta *tokens, const char *name, struct df_meta *m, struct df_err *err)
{
	static const enum df_kind kinds[] = { DF_KIND_LOSSES, DF_KIND_GRADIENTS, DF_KIND_PROJECTIONS,
		DF_KIND_GATELOAD };
	const struct df_params *train = df_model_train(g->model);
	const struct df_model_config *c = df_model_config(g->model);
	int rc = DF_OK;

	DF_TRY(df_model_check_tokens(g->o.model, tokens, name, err));
	if (g->o.policy.rewards)
		DF_TRY(check_policy(g, tokens, name, err));
	m->kind = kinds[g->o.output];
	if (has_gradients(g))
		DF_TRY(form_to_meta(g, m, err));
	if (g->o.output == DF_GRAD_LOADS) {
		DF_TRY(df_meta_set_int(m, "layers", (int64_t)c->n_layers, err));
		DF_TRY(df_meta_set_int(m, "experts", (int64_t)c->moe.n_experts, err));
		DF_TRY(df_meta_set_int(m, "experts_per_token", (int64_t)c->moe.top_k, err));
	}
	if (g->o.output == DF_GRAD_PROJECTED)
		DF_TRY(df_projector_to_meta(&g->o.projector, m, err));
	DF_TRY(tokens_to_meta(g, tokens, m, err));
	DF_TRY(df_meta_copy_input(m, tokens, DF_ROLE_ROWS_OF, err));
	DF_TRY(df_meta_add_input(m, "checkpoint", "checkpoint", g->checkpoint, err));
	DF_TRY(df_model_compute_to_meta(g->model, m, err));
	for (size_t i = 0; i < tokens->n_domains; i++)
		DF_TRY(df_meta_add_domain(m, tokens->domains[i], NULL, err));
	for (size_t i = 0; g->o.output == DF_GRAD_RAW && i < train->n; i++)
		DF_TRY(df_meta_add_manifest(
		    m, train->v[i].name, train->v[i].offset, train->v[i].rows, train->v[i].cols, err));
out:
	return rc;
}

static size_t
load_width(const struct df_grad *g)
{
	const struct df_model_config *c = df_model_config(g->model);

	return c->n_layers * c->moe.n_experts;
}

size_t
df_grad_columns(
    const struct df_grad *g, bool has_domain, enum df_col cols[DF_GRAD_COLUMNS_MAX], size_t widths[DF_COL_COUNT])
{
	size_t n = 0;

	memset(widths, 0, DF_COL_COUNT * sizeof(*widths));
	cols[n++] = DF_COL_ID;
	if (has_domain)
		cols[n++] = DF_COL_DOMAIN;
	if (g->o.output == DF_GRAD_LOADS) {
		cols[n++] = DF_COL_GATE_LOAD;
		widths[DF_COL_GATE_LOAD] = load_width(g);
		return n;
	}
	if (!g->o.policy.rewards)
		cols[n++] = DF_COL_LOSS;
	cols[n++] = DF_COL_N_TOKENS;
	if (g->o.output == DF_GRAD_RAW) {
		cols[n++] = DF_COL_GRADIENT;
		widths[DF_COL_GRADIENT] = g->p;
	} else if (g->o.output == DF_GRAD_PROJECTED) {
		cols[n++] = DF_COL_PROJECTION;
		widths[DF_COL_PROJECTION] = g->o.projector.k;
	} else if (g->o.token_loss) {
		cols[n++] = DF_COL_TOKEN_LOSS;
	}
	return n;
}

/* ---- a block ----------------------------------------------------------------------------- */

int
df_grad_lane_new(struct df_grad_lane **out, const struct df_grad *g, struct df_err *err)
{
	struct df_grad_lane *l = NULL;
	int rc = DF_OK;

	DF_TRY(df_alloc(&l, 1, sizeof(*l), "lane", err));
	l->g = g;
	DF_TRY(df_work_new(&l->work, g->model, err));
	l->be = df_work_backend(l->work);
	*out = l;
	l = NULL;
out:
	df_grad_lane_free(l);
	return rc;
}

void
df_grad_lane_free(struct df_grad_lane *l)
{
	if (!l)
		return;
	df_projection_release(&l->projection);
	df_tensor_free(l->g->be, &l->weight);
	df_tensor_free(l->g->be, &l->sum);
	df_work_free(l->work);
	free(l->block);
	free(l);
}

/* Turn the block into the form that was asked for, in place. */
static int
take_form(const struct df_grad_lane *l, const struct df_grad_block *block, struct df_err *err)
{
	const struct df_grad *g = l->g;
	const struct df_moments *o = &g->moments;
	const struct df_adam_form a = {
		.g = block->g,
		.m = df_tensor_cols(o->m, block->offset, block->g.cols),
		.v = df_tensor_cols(o->v, block->offset, block->g.cols),
		.beta1 = o->beta1,
		.beta2 = o->beta2,
		.eps = o->eps,
		.eps_inside = g->o.eps_inside,
	};

	switch (g->o.form) {
	case DF_GRAD_ADAM: return df_adam_form(l->be, &a, err);
	case DF_GRAD_SIGN: return df_sign(l->be, block->g, err);
	case DF_GRAD_SGD: break;
	}
	return DF_OK;
}

static int
keep_block(struct df_grad_lane *l, const struct df_grad_block *block, struct df_err *err)
{
	const size_t n = block->g.cols;
	int rc = DF_OK;

	DF_TRY(df_grow(&l->block, &l->block_cap, block->g.rows * n, sizeof(*l->block), "a block of gradients", err));
	DF_TRY(df_download(l->be, l->block, block->g, err));
	for (size_t s = 0; s < block->g.rows; s++)
		memcpy(l->raw + s * l->g->p + block->offset, l->block + s * n, n * sizeof(*l->block));
out:
	return rc;
}

static int
sink(void *ctx, const struct df_grad_block *block, struct df_err *err)
{
	struct df_grad_lane *l = ctx;
	int rc = DF_OK;

	DF_TRY(take_form(l, block, err));
	rc = l->raw ? keep_block(l, block, err)
		    : df_projection_add(&l->projection, block->g, block->offset, block->piece, err);
out:
	return rc;
}

/* Rows without a target get gradient zero in every form: in Adam's, the momentum alone would give them a step. */
static void
clear_unlabelled(float *rows, size_t width, const struct df_losses *losses, size_t n)
{
	for (size_t s = 0; s < n; s++)
		if (!losses->n_targets[s])
			memset(rows + s * width, 0, width * sizeof(*rows));
}

static int
gradients(struct df_grad_lane *l, const struct df_tokens *t, const struct df_losses *losses, struct df_batch *out,
    struct df_err *err)
{
	const struct df_grad *g = l->g;
	const enum df_col col = g->o.output == DF_GRAD_RAW ? DF_COL_GRADIENT : DF_COL_PROJECTION;
	const size_t width = g->o.output == DF_GRAD_RAW ? g->p : g->o.projector.k;
	float *rows = NULL;
	size_t numel;
	int rc = DF_OK;

	DF_TRY(df_size_mul(t->n, width, &numel, "gradients", err));
	DF_TRY(df_arena_alloc(&out->arena, &rows, numel, sizeof(*rows), "gradients", err));
	out->col[col] = (struct df_column_data){ .data = rows, .width = width };
	if (g->o.output == DF_GRAD_PROJECTED)
		DF_TRY(df_projection_begin(&l->projection, &g->o.projector, l->be, t->n, err));
	l->raw = g->o.output == DF_GRAD_RAW ? rows : NULL;
	DF_TRY(df_model_sample_grads(g->model, l->work, t, sink, l, losses, err));
	if (g->o.output == DF_GRAD_PROJECTED)
		DF_TRY(df_projection_end(&l->projection, rows, err));
	clear_unlabelled(rows, width, losses, t->n);
out:
	return rc;
}

static int
losses_alone(struct df_grad_lane *l, const struct df_tokens *t, struct df_losses *losses, struct df_batch *out,
    struct df_err *err)
{
	uint64_t *offsets = NULL;
	int rc = DF_OK;

	if (!l->g->o.token_loss)
		return df_model_loss(l->g->model, l->work, t, losses, err);
	DF_TRY(
	    df_arena_alloc(&out->arena, &losses->token_nll, t->offsets[t->n] + 1, sizeof(float), "token losses", err));
	DF_TRY(df_arena_alloc(&out->arena, &offsets, t->n + 1, sizeof(*offsets), "token losses", err));
	DF_TRY(df_model_loss(l->g->model, l->work, t, losses, err));
	offsets[0] = 0;
	for (size_t s = 0; s < t->n; s++)
		offsets[s + 1] = offsets[s] + losses->n_targets[s];
	out->col[DF_COL_TOKEN_LOSS] = (struct df_column_data){ .data = losses->token_nll, .offsets = offsets };
out:
	return rc;
}

/* The exponent bits decide, without a branch, so that the loop vectorises. */
bool
df_grad_not_finite(const float *x, size_t n)
{
	const uint32_t exponent = 0x7f800000;
	uint32_t bad = 0;

	for (size_t i = 0; i < n; i++) {
		uint32_t u;

		memcpy(&u, &x[i], sizeof(u));
		bad |= (u & exponent) == exponent;
	}
	return bad != 0;
}

static void
find_flaws(const struct df_grad *g, const struct df_batch *out, const struct df_losses *losses, struct df_grad_flaws *f)
{
	const enum df_col col = g->o.output == DF_GRAD_RAW ? DF_COL_GRADIENT : DF_COL_PROJECTION;
	const struct df_column_data *rows = &out->col[col];
	const uint64_t *id = out->col[DF_COL_ID].data;

	*f = (struct df_grad_flaws){ 0 };
	for (size_t s = 0; s < out->n; s++) {
		if (!losses->n_targets[s]) {
			f->n_unlabelled++;
		} else if (!isfinite(losses->loss[s]) ||
		    (rows->data && df_grad_not_finite((const float *)rows->data + s * rows->width, rows->width))) {
			if (!f->n_not_finite)
				f->first_not_finite = id[s];
			f->n_not_finite++;
		}
	}
}

/* A forward without targets: the head is not needed. */
static int
loads(struct df_grad_lane *l, const struct df_tokens *t, struct df_batch *out, struct df_err *err)
{
	const size_t width = load_width(l->g);
	struct df_tokens b = *t;
	struct df_losses wanted = { 0 };
	int rc = DF_OK;

	b.mask = NULL;
	DF_TRY(df_arena_alloc(&out->arena, &wanted.gate_load, t->n * width, sizeof(float), "router loads", err));
	DF_TRY(df_model_loss(l->g->model, l->work, &b, &wanted, err));
	out->col[DF_COL_GATE_LOAD] = (struct df_column_data){ .data = wanted.gate_load, .width = width };
out:
	return rc;
}

int
df_grad_block(struct df_grad_lane *l, const struct df_batch *in, struct df_batch *out, struct df_grad_flaws *flaws,
    struct df_err *err)
{
	const struct df_tokens t = { .n = in->n,
		.offsets = in->col[DF_COL_IDS].offsets,
		.ids = in->col[DF_COL_IDS].data,
		.mask = in->col[DF_COL_LABEL_MASK].data,
		.position = in->col[DF_COL_POSITION].data,
		.sequence = in->col[DF_COL_SEQUENCE].data };
	struct df_losses losses = { 0 };
	int rc = DF_OK;

	df_batch_clear(out);
	out->n = in->n;
	out->first = in->first;
	out->col[DF_COL_ID] = in->col[DF_COL_ID];
	out->col[DF_COL_DOMAIN] = in->col[DF_COL_DOMAIN];
	if (l->g->o.output == DF_GRAD_LOADS) {
		*flaws = (struct df_grad_flaws){ 0 };
		return loads(l, &t, out, err);
	}
	DF_TRY(df_arena_alloc(&out->arena, &losses.loss, t.n, sizeof(float), "losses", err));
	DF_TRY(df_arena_alloc(&out->arena, &losses.n_targets, t.n, sizeof(uint32_t), "losses", err));
	out->col[DF_COL_LOSS] = (struct df_column_data){ .data = losses.loss, .width = 1 };
	out->col[DF_COL_N_TOKENS] = (struct df_column_data){ .data = losses.n_targets, .width = 1 };
	if (l->g->o.output == DF_GRAD_LOSSES)
		DF_TRY(losses_alone(l, &t, &losses, out, err));
	else
		DF_TRY(gradients(l, &t, &losses, out, err));
	find_flaws(l->g, out, &losses, flaws);
out:
	return rc;
}
