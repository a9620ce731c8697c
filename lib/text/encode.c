/*
 * encode.c - templates applied, masks set, rows cut to length.
 *
 * A template is bound to its tokenizer once: elements without a placeholder
 * become ids there and then, and so does the system text that most rows share.
 * What is left for a row is to splice its texts between the fixed parts and
 * tokenise each text element by itself.  The turns of a row are encoded end to end into the
 * thread's scratch; assembling the row is copying prefixes of them.
 */
#include "text/encode.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"

static const char content_mark[] = "{{content}}";
static const char idx_mark[] = "{{idx}}";

/* An element, bound: fixed ids, or a text around the message. */
struct elem {
	bool is_fixed;
	struct df_ids ids;          /* fixed */
	const char *before, *after; /* text: around {{content}} */
	size_t n_before, n_after;
};

struct slot {
	struct elem elem[DF_SLOT_MAX];
	size_t n;
};

struct df_encoder {
	const struct df_tokenizer *tok;
	struct df_encode_opts opts;
	char *default_system;
	struct slot prefix, system, user, assistant, observation;
	struct df_ids system_ids; /* prefix and the default system text, ready */
	struct df_buf bos, eos;   /* pt: their texts; bos empty unless rows begin with it */
	uint32_t pad;
};

/* A turn's tokens are scratch ids [start of the turn, end). */
struct df_encscratch {
	struct df_tokscratch *tok;
	struct df_buf text;
	struct df_ids ids;
	size_t *ends;
	size_t cap_ends;
	struct cut *cuts; /* of the rounds */
	size_t cap_cuts;
};

static int
append(struct df_ids *to, const uint32_t *v, size_t n, struct df_err *err)
{
	int rc = df_grow(&to->v, &to->cap, to->n + n, sizeof(*to->v), "token ids", err);

	if (rc == 0 && n > 0) {
		memcpy(to->v + to->n, v, n * sizeof(*v));
		to->n += n;
	}
	return rc;
}

/* ---- binding ------------------------------------------------------------ */

static int
bind_elem(
    struct elem *b, const struct df_elem *e, const struct df_encoder *enc, struct df_tokscratch *ts, struct df_err *err)
{
	uint32_t id = DF_NO_TOKEN;
	const char *mark;

	b->is_fixed = true;
	switch (e->kind) {
	case DF_ELEM_BOS: id = df_tokenizer_bos(enc->tok); break;
	case DF_ELEM_EOS: id = df_tokenizer_eos(enc->tok); break;
	case DF_ELEM_TOKEN:
		id = df_tokenizer_lookup(enc->tok, e->text);
		if (id == DF_NO_TOKEN)
			return df_fail(err, DF_EUNSUPPORTED, "the tokenizer has no token '%s'", e->text);
		break;
	default:
		mark = strstr(e->text, content_mark);
		if (!mark)
			return df_tokenizer_encode(
			    enc->tok, ts, e->text, strlen(e->text), enc->opts.split_special, &b->ids, err);
		b->is_fixed = false;
		b->before = e->text;
		b->n_before = (size_t)(mark - e->text);
		b->after = mark + sizeof(content_mark) - 1;
		b->n_after = strlen(b->after);
		return 0;
	}
	return id == DF_NO_TOKEN ? 0 : append(&b->ids, &id, 1, err);
}

static int
bind_slot(
    struct slot *b, const struct df_elem *e, const struct df_encoder *enc, struct df_tokscratch *ts, struct df_err *err)
{
	int rc = 0;

	for (; e->kind != DF_ELEM_END && rc == 0; e++)
		rc = bind_elem(&b->elem[b->n++], e, enc, ts, err);
	return rc;
}

static void
release_slot(struct slot *b)
{
	for (size_t i = 0; i < b->n; i++)
		df_ids_release(&b->elem[i].ids);
}

/*
 * Append a slot's ids with `content` in it.  In user slots LLaMA-Factory then
 * replaces the first {{idx}} of each element by the round, wherever it stands,
 * be it in the user's own text; so does this.
 */
static int
apply_slot(const struct df_encoder *e, struct df_encscratch *s, const struct slot *slot, const char *content, size_t n,
    const size_t *round, struct df_ids *ids, struct df_err *err)
{
	int rc = 0;

	for (size_t i = 0; i < slot->n; i++) {
		const struct elem *el = &slot->elem[i];
		const char *mark;

		if (el->is_fixed) {
			DF_TRY(append(ids, el->ids.v, el->ids.n, err));
			continue;
		}
		df_buf_clear(&s->text);
		df_buf_add(&s->text, el->before, el->n_before);
		df_buf_add(&s->text, content, n);
		df_buf_add(&s->text, el->after, el->n_after);
		DF_TRY(df_buf_check(&s->text, err));
		mark = round ? memmem(s->text.data, s->text.len, idx_mark, sizeof(idx_mark) - 1) : NULL;
		if (mark) {
			const size_t at = (size_t)(mark - s->text.data);
			const size_t behind = at + sizeof(idx_mark) - 1;
			struct df_buf t = DF_BUF_INIT;

			df_buf_add(&t, s->text.data, at);
			df_buf_printf(&t, "%zu", *round);
			df_buf_add(&t, s->text.data + behind, s->text.len - behind);
			df_buf_release(&s->text);
			s->text = t;
			DF_TRY(df_buf_check(&s->text, err));
		}
		if (s->text.len > 0)
			DF_TRY(df_tokenizer_encode(
			    e->tok, s->tok, s->text.data, s->text.len, e->opts.split_special, ids, err));
	}
out:
	return rc;
}

/* Stage pt works on strings: the texts of bos and eos are tokenised with the document. */
static int
bind_pt(struct df_encoder *e, const struct df_template *t, struct df_err *err)
{
	const uint32_t eos = df_tokenizer_eos(e->tok), bos = df_tokenizer_bos(e->tok);
	int rc = 0;

	if (strcmp(t->name, "llama3") == 0)
		df_buf_puts(&e->eos, "<|end_of_text|>");
	else
		DF_TRY(df_tokenizer_decode(e->tok, &eos, 1, &e->eos, err));
	if (df_tokenizer_add_bos(e->tok) && bos != DF_NO_TOKEN && !e->opts.packing)
		DF_TRY(df_tokenizer_decode(e->tok, &bos, 1, &e->bos, err));
	DF_TRY(df_buf_check(&e->eos, err));
	DF_TRY(df_buf_check(&e->bos, err));
out:
	return rc;
}

int
df_encoder_new(struct df_encoder **out, const struct df_template *t, struct df_tokenizer *tok,
    const struct df_encode_opts *opts, struct df_err *err)
{
	struct df_encscratch *s = NULL;
	struct df_encoder *e = NULL;
	int rc = 0;

	if (opts->train_on_prompt && opts->mask_history)
		return df_fail(err, DF_EUSAGE, "train_on_prompt and mask_history exclude each other");
	if (opts->cutoff_len < 1)
		return df_fail(err, DF_EUSAGE, "cutoff_len must be at least 1");
	if (opts->packing && opts->stage != DF_STAGE_PT)
		return df_fail(err, DF_EUSAGE,
		    "packing is for stage pt; rows of stage sft are never padded, "
		    "so packing them would gain nothing");
	DF_TRY(df_alloc(&e, 1, sizeof(*e), "encoder", err));
	e->tok = tok;
	e->opts = *opts;
	e->opts.default_system = NULL;
	DF_TRY(df_strdup(&e->default_system, opts->default_system ? opts->default_system : t->default_system, err));
	DF_TRY(df_template_fix_tokenizer(t, tok, &e->pad, err));
	DF_TRY(df_encscratch_new(&s, e, err));
	DF_TRY(bind_slot(&e->prefix, t->prefix, e, s->tok, err));
	DF_TRY(bind_slot(&e->system, t->system, e, s->tok, err));
	DF_TRY(bind_slot(&e->user, t->user, e, s->tok, err));
	DF_TRY(bind_slot(&e->assistant, t->assistant, e, s->tok, err));
	DF_TRY(bind_slot(&e->observation, t->observation, e, s->tok, err));
	DF_TRY(apply_slot(e, s, &e->prefix, "", 0, NULL, &e->system_ids, err));
	if (*e->default_system)
		DF_TRY(apply_slot(
		    e, s, &e->system, e->default_system, strlen(e->default_system), NULL, &e->system_ids, err));
	if (opts->stage == DF_STAGE_PT)
		DF_TRY(bind_pt(e, t, err));
	*out = e;
	e = NULL;
out:
	df_encscratch_free(s);
	df_encoder_free(e);
	return rc;
}

void
df_encoder_free(struct df_encoder *e)
{
	if (!e)
		return;
	release_slot(&e->prefix);
	release_slot(&e->system);
	release_slot(&e->user);
	release_slot(&e->assistant);
	release_slot(&e->observation);
	df_ids_release(&e->system_ids);
	df_buf_release(&e->bos);
	df_buf_release(&e->eos);
	free(e->default_system);
	free(e);
}

uint32_t
df_encoder_pad(const struct df_encoder *e)
{
	return e->pad;
}

int
df_encscratch_new(struct df_encscratch **out, const struct df_encoder *e, struct df_err *err)
{
	struct df_encscratch *s = NULL;
	int rc = 0;

	DF_TRY(df_alloc(&s, 1, sizeof(*s), "encoder scratch", err));
	DF_TRY(df_tokscratch_new(&s->tok, e->tok, err));
	*out = s;
	s = NULL;
out:
	df_encscratch_free(s);
	return rc;
}

void
df_encscratch_free(struct df_encscratch *s)
{
	if (!s)
		return;
	df_tokscratch_free(s->tok);
	df_buf_release(&s->text);
	df_ids_release(&s->ids);
	free(s->ends);
	free(s->cuts);
	free(s);
}

void
df_encoded_release(struct df_encoded *r)
{
	df_ids_release(&r->ids);
	free(r->mask);
	r->mask = NULL;
	r->cap_mask = 0;
}

/* ---- rows --------------------------------------------------------------- */

void
df_infer_seqlen(size_t S, size_t T, size_t C, size_t *source, size_t *target)
{
	size_t max_target, room;

	if (T * 2 < C)
		max_target = C;
	else if (S * 2 < C)
		max_target = C - S;
	else /* in doubles and in this order, so that the rounding is LLaMA-Factory's */
		max_target = (size_t)((double)C * ((double)T / (double)(S + T)));
	*target = max_target < T ? max_target : T;
	room = C - *target;
	*source = room < S ? room : S;
}

/* Append n ids with one mask value. */
static int
put(struct df_encoded *out, const uint32_t *ids, size_t n, uint8_t mask, struct df_err *err)
{
	int rc = 0;

	DF_TRY(df_grow(&out->mask, &out->cap_mask, out->ids.n + n, 1, "label mask", err));
	if (n > 0)
		memset(out->mask + out->ids.n, mask, n);
	DF_TRY(append(&out->ids, ids, n, err));
out:
	return rc;
}

/* All turns into s->ids; turn i is [ends[i-1], ends[i]). */
static int
encode_turns(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex, struct df_err *err)
{
	int rc = 0;

	s->ids.n = 0;
	DF_TRY(df_grow(&s->ends, &s->cap_ends, ex->n_turns, sizeof(*s->ends), "turns", err));
	if (ex->n_system > 0) {
		DF_TRY(apply_slot(e, s, &e->prefix, "", 0, NULL, &s->ids, err));
		DF_TRY(apply_slot(e, s, &e->system, ex->system, ex->n_system, NULL, &s->ids, err));
	} else {
		DF_TRY(append(&s->ids, e->system_ids.v, e->system_ids.n, err));
	}
	for (size_t i = 0; i < ex->n_turns; i++) {
		const struct df_turn *t = &ex->turns[i];
		const size_t round = i / 2;

		switch (t->role) {
		case DF_ROLE_USER: DF_TRY(apply_slot(e, s, &e->user, t->text, t->n, &round, &s->ids, err)); break;
		case DF_ROLE_OBSERVATION:
			DF_TRY(apply_slot(e, s, &e->observation, t->text, t->n, NULL, &s->ids, err));
			break;
		case DF_ROLE_ASSISTANT:
			DF_TRY(apply_slot(e, s, &e->assistant, t->text, t->n, NULL, &s->ids, err));
			break;
		case DF_ROLE_FUNCTION:
			rc = df_fail(err, DF_EUNSUPPORTED, "a function call; convert drops these");
			goto out;
		}
		s->ends[i] = s->ids.n;
	}
out:
	return rc;
}

/* How many tokens of a round's source and target are kept. */
struct cut {
	size_t source, target;
};

/*
 * Share cutoff_len among the rounds: in order, or from the last to the first
 * when only the last answer counts (mask_history).  A round that does not fit
 * is cut, and fills what was left, so that the rounds after it get nothing.
 */
static int
cut_rounds(const struct df_encoder *e, struct df_encscratch *s, size_t n_rounds, struct df_encode_info *info,
    struct df_err *err)
{
	size_t left = e->opts.cutoff_len;
	int rc = df_grow(&s->cuts, &s->cap_cuts, n_rounds, sizeof(*s->cuts), "rounds", err);

	for (size_t i = 0; i < n_rounds && rc == 0; i++) {
		const size_t r = e->opts.mask_history ? n_rounds - 1 - i : i;
		const size_t start = r ? s->ends[2 * r - 1] : 0;
		const size_t S = s->ends[2 * r] - start, T = s->ends[2 * r + 1] - s->ends[2 * r];
		struct cut *c = &s->cuts[r];

		*c = (struct cut){ 0, 0 };
		if (left > 0)
			df_infer_seqlen(S, T, left, &c->source, &c->target);
		left -= c->source + c->target;
		info->truncated |= c->source < S || c->target < T;
	}
	return rc;
}

static int
encode_sft(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex, struct df_encoded *out,
    struct df_encode_info *info, struct df_err *err)
{
	const size_t n_rounds = ex->n_turns / 2;
	int rc = 0;

	DF_TRY(encode_turns(e, s, ex, err));
	DF_TRY(cut_rounds(e, s, n_rounds, info, err));
	for (size_t r = 0; r < n_rounds; r++) {
		const uint32_t *source = s->ids.v + (r ? s->ends[2 * r - 1] : 0);
		const uint32_t *target = s->ids.v + s->ends[2 * r];
		const struct cut c = s->cuts[r];
		const bool learn = !e->opts.mask_history || r + 1 == n_rounds;

		DF_TRY(put(out, source, c.source, e->opts.train_on_prompt, err));
		DF_TRY(put(out, target, c.target, learn, err));
		info->n += c.source + c.target;
		info->n_targets += (e->opts.train_on_prompt ? c.source : 0) + (learn ? c.target : 0);
	}
out:
	return rc;
}

/*
 * The document and its eos as one string, as LLaMA-Factory has it.  A padding
 * token is never a target, be it the eos itself (a tokenizer without pad).
 */
static int
encode_pt(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex, struct df_encoded *out,
    struct df_encode_info *info, struct df_err *err)
{
	size_t n;
	int rc = 0;

	df_buf_clear(&s->text);
	df_buf_add(&s->text, e->bos.data, e->bos.len);
	df_buf_add(&s->text, ex->turns[0].text, ex->turns[0].n);
	df_buf_add(&s->text, e->eos.data, e->eos.len);
	DF_TRY(df_buf_check(&s->text, err));
	s->ids.n = 0;
	DF_TRY(df_tokenizer_encode(e->tok, s->tok, s->text.data, s->text.len, e->opts.split_special, &s->ids, err));
	n = s->ids.n;
	if (!e->opts.packing && n > e->opts.cutoff_len) {
		n = e->opts.cutoff_len;
		info->truncated = true;
	}
	DF_TRY(put(out, s->ids.v, n, 1, err));
	info->n = info->n_targets = n;
	for (size_t i = out->ids.n - n; i < out->ids.n; i++)
		if (out->ids.v[i] == e->pad) {
			out->mask[i] = 0;
			info->n_targets--;
		}
out:
	return rc;
}

static bool
is_bare(const struct slot *slot)
{
	for (size_t i = 0; i < slot->n; i++)
		if (slot->elem[i].ids.n + slot->elem[i].n_before + slot->elem[i].n_after > 0)
			return false;
	return true;
}

bool
df_encode_is_empty(const struct df_encoder *e, const struct df_example *ex)
{
	size_t n = e->system_ids.n + ex->n_system;

	if (e->opts.stage == DF_STAGE_PT)
		return ex->turns[0].n + e->eos.len + e->bos.len == 0;
	for (size_t i = 0; i < ex->n_turns; i++)
		n += ex->turns[i].n;
	return n == 0 && is_bare(&e->user) && is_bare(&e->assistant) && is_bare(&e->observation);
}

int
df_encode(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex, struct df_encoded *out,
    struct df_encode_info *info, struct df_err *err)
{
	*info = (struct df_encode_info){ 0, 0, false };
	if (e->opts.stage == DF_STAGE_PT)
		return encode_pt(e, s, ex, out, info, err);
	return encode_sft(e, s, ex, out, info, err);
}
