/*
 * work.h - activations and scratch of one thread; seen in lib/model only.
 *
 * Rows.  T tokens of the batch run through the layers.  Only L of them, those that predict a target, need
 * logits.  So the last layer continues with these rows only, as soon as its attention is done: its second
 * half, the final norm and the head cost L rows, not T.  `row[i]` is the token of target row i; `seg` and
 * `target_seg` say which rows belong to which sample, the first for tokens, the second for target rows.
 *
 * What a batch brings besides activations, its indices and its numbers per row, lies in one stage: the host fills it
 * in, and the forward pushes it once.  Whoever writes to it after that pushes that part.
 *
 * Activations, in numbers of their type (H, 2, X, k and P always in f32), with r' = rank times the number of adapted
 * members of all groups (0 without LoRA), P = the largest block of a parameter's gradients (sample gradients only;
 * df_work_block_rows()):
 *
 *	x_in        m D                                                  m = T
 *	the rest    m (3 D + (H+2K) E + H E + H + 2 + 3 F + r')  of a layer; + T ((H+K) E + H + K) for norms of q and k
 *	all         losses: 1 layer; gradients: n_layers of them (where the lowest are not trainable, those from the
 *	            first trainable one on, and 1); with checkpointing n_layers x_in and 1 rest
 *	scratch     T (D + max(D,F,HE) + (H+2K) E + 3 rank) + L (3 D + HE) + P
 *	            + L V for sample gradients of a trainable head
 *
 * A layer with a mixture of experts has, with k experts of width Fe for each row, X experts in all, a
 * shared one of width Fs:
 *
 *	in place of 3 F     X + 2 k + k (3 Fe + r') + 3 Fs + D + 1
 *	scratch             T (k (2 D + 2 Fe + 3) + D + Fs), once; losses: T (k (D + Fe + 1) + D)
 *
 * Router loads take T (2 D + X + 2 k + 1 + 2 rank) more, dropout T max(D,F,HE) more, with experts k times that; LoRA of
 * experts takes 6 T k rank more.
 */
#ifndef DF_MODEL_WORK_H
#define DF_MODEL_WORK_H

#include "model/model_priv.h"

/* Indices [1,n], on both sides of a stage. */
struct df_indices {
	uint32_t *host;
	struct df_tensor dev;
};
/* n of them at this byte of a stage. */
static inline struct df_indices
df_indices_at(const struct df_stage *st, size_t at, size_t n)
{
	return (struct df_indices){ df_stage_host(st, at), df_stage_view(st, DF_U32, at, 1, n) };
}
static inline struct df_indices
df_indices_part(struct df_indices x, size_t first, size_t n)
{
	return (struct df_indices){ x.host + first, df_tensor_cols(x.dev, first, n) };
}

/*
 * The rows of a matrix of activations: `seg` [n+1] says which rows belong to which sample, `token`
 * which token a row is.
 */
struct df_act_rows {
	struct df_indices seg;
	struct df_indices token; /* host NULL: row t is token t; ascending within a sample */
};

/*
 * What a mixture of experts keeps.  R = m k rows: one for each expert that a row of the layer is sent
 * to, sorted by expert and then by row (moe.c).
 */
struct df_moe_act {
	struct df_tensor p, weight;   /* [m,X] routing probabilities; [m,k] weights of the chosen */
	struct df_tensor expert;      /* [m,k] u32: the chosen experts */
	struct df_tensor gu, h;       /* [R,2Fe] [R,Fe] */
	struct df_tensor u_in, u_out; /* LoRA of the experts: [R, most u_cols of any] */
	struct df_tensor s_gu, s_h;   /* shared expert: [m,2Fs] [m,Fs] */
	struct df_tensor s_y, s_gate; /* its output [m,D]; sigmoid of its gate [m,1] */
	struct df_tensor u_router, su_in, su_out, su_gate;
};

/* What one layer keeps for its backward.  m = T, or L in the second half of the last layer. */
struct df_act {
	struct df_tensor x_in, rstd1, x1;  /* [T,D] [T,1] [T,D]: residual stream, normed */
	struct df_tensor qkv;              /* [T,(H+2K)E], q and k normed and rotated */
	struct df_tensor qk;               /* [T,(H+K)E]: q and k before their norm, if they have one */
	struct df_tensor rstd_q, rstd_k;   /* [T,H] [T,K] */
	struct df_tensor o, lse;           /* [T,HE] [T,H] */
	struct df_tensor o_in;             /* [m,HE]: o, or its target rows */
	struct df_tensor x_mid, rstd2, x2; /* [m,D] [m,1] [m,D] */
	struct df_tensor gu, h;            /* [m,2F] [m,F]; dense layers */
	struct df_moe_act moe;             /* layers with experts */
	struct df_tensor u[DF_GROUPS];     /* LoRA: scale * x A^T, [m, u_cols] */
};

/* WEIGHED_GRAD: the head has a forward and a backward of its own. */
enum df_work_mode { DF_WORK_LOSS, DF_WORK_GRAD, DF_WORK_WEIGHED_GRAD, DF_WORK_SAMPLE_GRADS };

struct df_work {
	struct df_model *m;
	struct df_backend *be; /* a lane of its own: all operations of a batch */
	struct df_tensor mem;      /* the activations and the scratch below; bytes */
	enum df_dtype act_type;    /* of activations */
	struct df_tensor hidden;   /* [T,D] hidden states for a caller, where activations are not float32 */
	struct df_tensor cos, sin; /* [n_pos + n_own, E/2]; rope.c */
	size_t n_pos, n_own;

	const struct df_tensor *weights; /* [base.n] what forward and backward read: the model's or the source's */
	const struct df_weight_source *source; /* NULL: the model's are always there */
	df_ready_fn *ready; /* or NULL */
	void *ready_ctx;

	struct df_cache *cache; /* generation (decode.c): attention sees the sequences' past too; NULL elsewhere */

	size_t n, n_tok, n_rows; /* samples, T, L */
	bool has_keys;           /* of dropout */
	df_weigh_fn *weigh;      /* or NULL */
	void *weigh_ctx;

	/* the batch, in its stage; the forward pushes the first n_push bytes */
	struct df_stage *stage;
	size_t n_push;
	struct df_indices ids, pos;        /* [T]; pos: row of the rotary table */
	struct df_indices seg, target_seg; /* [n+1] tokens, target rows */
	struct df_indices attn_seg;        /* tokens that see each other: samples, or their sequences */
	struct df_indices sequences;       /* [T+1] memory of attn_seg, if it is not seg */
	struct df_indices row;             /* [L] */
	struct df_indices key;             /* [2n] of dropout; empty without */
	struct df_indices pick, index;     /* [T] the embedding's gradient: tokens, where each is added */
	uint64_t *order;                   /* [T] the same as (id, token), on the host only */
	size_t cap_order;

	/* per target row [L], the host's side */
	uint32_t *target;
	float *scale, *weight; /* factor of its gradient (df_head_scale()); weight: if head.weighed, on the host only */
	float *nll;            /* with correct, after df_head_losses() */
	uint8_t *correct;
	struct {
		struct df_tensor target, scale, nll, correct, lse; /* the device's side, [1,L] */
	} dev;
	struct {
		bool has_lse; /* the head's forward has run on its own */
		bool kept;    /* and left work.logits for the backward */
		bool fetched; /* nll and correct are on the host */
		bool weighed; /* weight is set */
	} head;

	/* mixtures of experts: the plan of the current layer's rows (df_route_plan); its counts are on the host too */
	struct {
		struct df_tensor row, slot, row_token; /* [R] each */
		struct df_indices first, seg;          /* [X+1] [X (n+1)] */
	} moe;
	struct df_tensor *list; /* [X] the experts' matrices in a product; host memory */
	float *gate_load; /* [n, n_layers X] for the forward to fill, or NULL */

	/* views into mem */
	struct df_act *act;                   /* [n_layers]; all the same memory in DF_WORK_LOSS */
	struct df_tensor x_last, rstd_f, h_f; /* [L,D] [L,1] [L,D]: input and output of the final norm */
	struct df_tensor d;                   /* [T,D] gradient of the residual stream */
	struct df_tensor d_rows;              /* [L,D] the same while it runs over target rows */
	struct df_tensor s1, s2, v;           /* scratch: [T, max(D,F,HE)] [T,(H+2K)E] [T, 3 rank] */
	struct df_tensor drop;                /* [T, max(D,F,HE)] for dropout */
	struct {
		struct df_tensor x, hs, weight;      /* [R,D] gathered; [R,Fe] weighted; [R,1] */
		struct df_tensor dy, dhs, dweight;   /* [R,D] [R,Fe] [R,1] */
		struct df_tensor dslot;              /* [T k,1] */
		struct df_tensor wide, sh;           /* [T,D] [T,Fs] */
		struct df_tensor x_mid, x2, rstd, p; /* [T,D] [T,D] [T,1] [T,X]: the last layer's loads (gate_load) */
		struct df_tensor u, top, chosen;     /* [T, rank of its o] [T,k] [T,k] */
		struct df_tensor v_in, v_out;        /* [R, 3 rank] each: LoRA of the experts */
	} ms;                                        /* scratch of mixtures of experts */
	struct df_tensor dlogits;             /* [L,V] */
	struct df_tensor logits;              /* [L,V] kept from the head's forward for its backward, or NONE */
	struct df_tensor block;               /* [n, most columns of a block] */
};

/* The weight with this index in base, as forward and backward read it: in a layer, between its hold and its drop. */
static inline struct df_tensor
df_work_weight(const struct df_work *w, size_t row)
{
	return w->weights[row];
}
/* A window of the model on weights that lie side by side (df_group); NONE where they come from elsewhere. */
static inline struct df_tensor
df_work_joined(const struct df_work *w, struct df_tensor t)
{
	return w->source == NULL ? t : DF_TENSOR_NONE;
}
/* work.c: a layer is about to read its weights; it has read them. */
int df_work_hold(struct df_work *w, size_t layer, struct df_err *err) DF_MUST_CHECK;
void df_work_drop(struct df_work *w, size_t layer);

/* Offsets begin at 0 and do not decrease. */
int df_work_check_offsets(const struct df_tokens *b, struct df_err *err) DF_MUST_CHECK;
/*
 * Take in a batch: check it, find its target rows.  The batch's keys are borrowed until the next call.
 * Positions are not checked here, as those of a cache continue after its past.
 */
int df_work_batch(struct df_work *w, const struct df_tokens *b, struct df_err *err) DF_MUST_CHECK;
/* The matrix rows of a parameter that are in a block of gradients of the batch's samples: whole pieces. */
size_t df_work_block_rows(const struct df_work *w, const struct df_param *p);
/* Instead, take all tokens as rows (their targets are arbitrary): for logits. */
void df_work_all_rows(struct df_work *w);
/* Or of each sample, none of them empty, the last token that is not `pad`, or its first: -1 for no padding. */
void df_work_last_rows(struct df_work *w, int64_t pad);
/* The batch goes to the device, when all its rows are known: called by the forward. */
int df_work_push(struct df_work *w, struct df_err *err) DF_MUST_CHECK;
/* So does what was written later: a window of the stage. */
int df_work_push_part(struct df_work *w, struct df_tensor part, struct df_err *err) DF_MUST_CHECK;
/* Lay out memory for the batch; the memory grows when needed. */
int df_work_layout(struct df_work *w, enum df_work_mode mode, struct df_err *err) DF_MUST_CHECK;

/* run.c: after a forward, the logits [L,V] of its rows; and the losses of its targets, weighed. */
int df_logits(struct df_work *w, struct df_tensor logits, struct df_err *err) DF_MUST_CHECK;
int df_losses(struct df_work *w, const struct df_losses *out, struct df_err *err) DF_MUST_CHECK;
/* decode.c: attention of a layer with w->cache: keep the rows' keys and values, then compute t.o. */
int df_cache_attend(struct df_work *w, size_t layer, const struct df_attn *t, struct df_err *err) DF_MUST_CHECK;

/* rope.c: w->pos, and the rotary table for tokens at these positions; NULL: positions count from the sample's start. */
int df_work_rotate(struct df_work *w, const uint32_t *position, struct df_err *err) DF_MUST_CHECK;

/* forward.c: fills w->act and w->h_f. */
int df_forward(struct df_work *w, struct df_err *err) DF_MUST_CHECK;
/* The arguments of layer i's attention, for forward and backward. */
struct df_attn df_layer_attention(const struct df_work *w, size_t i);
/* Layer i from its act's x_in; its output goes to next.  With checkpointing the backward calls it again. */
int df_layer_forward(struct df_work *w, size_t i, struct df_tensor next, struct df_err *err) DF_MUST_CHECK;
/*
 * The same for the first `layer` layers, 0 to all: *h [T,D] is the residual stream there, or, after
 * all of them, w->h_f (of its rows).
 */
int df_forward_to(struct df_work *w, size_t layer, struct df_tensor *h, struct df_err *err) DF_MUST_CHECK;
/* bert.c: an encoder's hidden states after `layer` layers; needs df_work_batch() only. */
int df_bert_forward(struct df_work *w, size_t layer, struct df_tensor *h, struct df_err *err) DF_MUST_CHECK;

/* All tokens, and the target rows. */
static inline struct df_act_rows
df_act_rows_all(const struct df_work *w)
{
	return (struct df_act_rows){ .seg = w->seg };
}
static inline struct df_act_rows
df_act_rows_targets(const struct df_work *w)
{
	return (struct df_act_rows){ .seg = w->target_seg, .token = w->row };
}

/* moe.c: next += the output of layer i's experts, from its act's x2. */
int df_moe_forward(struct df_work *w, size_t i, struct df_tensor next, const struct df_act_rows *rows,
    struct df_err *err) DF_MUST_CHECK;
/* The last layer continues with target rows before its experts: here is where they would send all tokens. */
int df_moe_last_load(struct df_work *w, struct df_err *err) DF_MUST_CHECK;

/*
 * The groups [from, to) of n, each with its own rows of a matrix: the experts of a layer, or one group alone, which has
 * them all.
 */
struct df_groups {
	const struct df_group *g;
	size_t n, from, to;
	struct df_indices first; /* [n+1], as in df_gemm_groups; host NULL: one group */
};
/* One of their matrices: all weights of a group side by side, a part's, all A side by side, a part's A or B. */
enum df_matrix { DF_ALL_WEIGHTS, DF_WEIGHT, DF_ALL_A, DF_A, DF_B };

static inline struct df_groups
df_one_group(const struct df_group *g)
{
	return (struct df_groups){ .g = g, .n = 1, .to = 1 };
}
/* The rows of group k in a matrix of all, and what they are: rows->seg counts from the first of each group. */
static inline struct df_tensor
df_group_part(const struct df_groups *gs, size_t k, struct df_tensor t)
{
	const uint32_t *first = gs->first.host;

	return first != NULL ? df_tensor_rows(t, first[k], first[k + 1] - first[k]) : t;
}
static inline struct df_act_rows
df_group_rows(const struct df_work *w, const struct df_groups *gs, size_t k, const struct df_act_rows *rows)
{
	const uint32_t *first = gs->first.host;

	if (first == NULL)
		return *rows;
	return (struct df_act_rows){ .seg = df_indices_part(rows->seg, k * (w->n + 1), w->n + 1),
		.token = { NULL, df_tensor_cols(rows->token.dev, first[k], first[k + 1] - first[k]) } };
}

/*
 * linear.c: y = x W^T + b + LoRA, or y += when `add` (the residual stream is the target). u keeps the
 * low-rank activations.
 */
int df_groups_forward(struct df_work *w, const struct df_groups *gs, struct df_tensor x, struct df_tensor u, bool add,
    struct df_tensor y, const struct df_act_rows *rows, struct df_err *err) DF_MUST_CHECK;
int df_group_forward(struct df_work *w, const struct df_group *g, struct df_tensor x, struct df_tensor u, bool add,
    struct df_tensor y, const struct df_act_rows *rows, struct df_err *err) DF_MUST_CHECK;
/* y = norm(x), rstd is kept; `row` is the weight's parameter index in base. */
int df_norm_forward(struct df_work *w, size_t row, struct df_tensor x, struct df_tensor y, struct df_tensor rstd,
    struct df_err *err) DF_MUST_CHECK;

/* Where a backward's parameter gradients go: added to one flat gradient, or block by block to a sink. */
struct df_emit {
	struct df_tensor grad; /* NONE for a sink */
	df_grad_sink *sink;
	void *ctx;
};
/* linear.c: v [rows of dy, most u_cols] = scale dy B, what the gradients of A and of the input have in common. */
int df_groups_v(struct df_work *w, const struct df_groups *gs, struct df_tensor dy, struct df_tensor v,
    struct df_err *err) DF_MUST_CHECK;
/* linear.c: dx = dy W (with adapters). */
int df_groups_dx(struct df_work *w, const struct df_groups *gs, struct df_tensor dy, struct df_tensor v,
    struct df_tensor dx, const struct df_act_rows *rows, struct df_err *err) DF_MUST_CHECK;
/*
 * linear.c: the groups' parameter gradients, from their input x and output gradient dy, go to e.  A sink takes one
 * group at a time.  Dropout uses w->drop.
 */
int df_groups_emit(struct df_work *w, const struct df_emit *e, const struct df_groups *gs, struct df_tensor x,
    struct df_tensor u, struct df_tensor v, struct df_tensor dy, const struct df_act_rows *rows, struct df_err *err)
    DF_MUST_CHECK;
/* linear.c: all of it for one group; without dx if that is NONE. */
int df_group_backward(struct df_work *w, const struct df_emit *e, const struct df_group *g, struct df_tensor x,
    struct df_tensor u, struct df_tensor dy, struct df_tensor dx, const struct df_act_rows *rows, struct df_err *err)
    DF_MUST_CHECK;
/*
 * moe.c: d [m,D] is the gradient of the layer's output; dx2 [m,D] becomes that of x2.  *done: no
 * parameter below is trainable.
 */
int df_moe_backward(struct df_work *w, const struct df_emit *e, size_t i, struct df_tensor d, struct df_tensor dx2,
    const struct df_act_rows *rows, bool *done, struct df_err *err) DF_MUST_CHECK;
/* head.c: the losses of the target rows, from w->h_f.  They stay on the device. */
int df_head_forward(struct df_work *w, struct df_err *err) DF_MUST_CHECK;
/* They are wanted: w->nll and w->correct, and what a weigher sees of them. */
int df_head_losses(struct df_work *w, struct df_target_losses *out, struct df_err *err) DF_MUST_CHECK;
/* w->weight of each target by w->weigh, if there is one; after df_head_forward(). */
int df_head_weigh(struct df_work *w, struct df_err *err) DF_MUST_CHECK;
/* Results per sample, after a head's forward or backward.  out may be NULL. */
int df_head_report(struct df_work *w, const struct df_losses *out, struct df_err *err) DF_MUST_CHECK;
/* w->scale of each target: its sample's factor (NULL: 1 / the sample's targets), times its weight if it has one. */
void df_head_scale(struct df_work *w, const float *sample_scale);
/* dh [L,D] = the gradient of w->h_f, from w->scale; the head's own goes to e.  Without a forward before, that too. */
int df_head_backward(struct df_work *w, const struct df_emit *e, struct df_tensor dh, struct df_err *err) DF_MUST_CHECK;

/* backward.c: head, layers, embedding, with the factors of w->scale. */
int df_backward(struct df_work *w, const struct df_emit *e, struct df_err *err) DF_MUST_CHECK;
/* Zero blocks for all parameters: a batch without targets. */
int df_emit_zeros(struct df_work *w, const struct df_emit *e, struct df_err *err) DF_MUST_CHECK;

/* emit.c: one parameter's gradients, summed or per sample as e says. seg [n+1] gives the samples' rows of dy and x. */
/* The trainable weights and biases of groups; a sink takes one group at a time. */
int df_emit_weights(struct df_work *w, const struct df_emit *e, const struct df_groups *gs, struct df_tensor x,
    struct df_tensor dy, const struct df_act_rows *rows, struct df_err *err) DF_MUST_CHECK;
/* dy^T x for one of the groups' matrices, where it is trainable; DF_ALL_* only summed. */
int df_emit_product(struct df_work *w, const struct df_emit *e, const struct df_groups *gs, enum df_matrix which,
    size_t part, struct df_tensor dy, struct df_tensor x, const struct df_act_rows *rows, struct df_err *err)
    DF_MUST_CHECK;
/* A norm's backward, for the parameter with index `row` in base; dx += the input's gradient. */
int df_emit_norm(struct df_work *w, const struct df_emit *e, size_t row, struct df_tensor x, struct df_tensor rstd,
    struct df_tensor dy, struct df_tensor dx, const struct df_indices *seg, struct df_err *err) DF_MUST_CHECK;
/* The same for each of the n_heads heads of a row; dy becomes the input's gradient. */
int df_emit_head_norm(struct df_work *w, const struct df_emit *e, size_t row, size_t n_heads, struct df_tensor x,
    struct df_tensor rstd, struct df_tensor dy, const struct df_indices *seg, struct df_err *err) DF_MUST_CHECK;
/* Sample gradients of the head (if it is not tied) and of the embedding; only if they are trainable. */
int df_emit_head(struct df_work *w, const struct df_emit *e, struct df_err *err) DF_MUST_CHECK;
int df_emit_embed(struct df_work *w, const struct df_emit *e, struct df_err *err) DF_MUST_CHECK;

/* c = alpha op(a) op(b) + beta c. */
static inline int
df_mm(struct df_backend *be, bool ta, bool tb, float alpha, struct df_tensor a, struct df_tensor b, float beta,
    struct df_tensor c, struct df_err *err)
{
	struct df_gemm g = { .ta = ta, .tb = tb, .alpha = alpha, .beta = beta, .a = a, .b = b, .c = c };

	return df_gemm(be, &g, err);
}

#endif
