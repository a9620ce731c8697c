/*
 * encode.c - rows: turns encoded, cut to length, masks set.
 *
 * The turns of a row are encoded one after the other into the thread's scratch; the row is made of prefixes of
 * them.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "chat/encode_priv.h"

/* The label of a token: none, itself, or the eos that ends the row. */
enum { MASK_NONE, MASK_SELF, MASK_EOS };

void
df_encoded_release(struct df_encoded *r)
{
	df_ids_release(&r->ids);
	free(r->mask);
	r->mask = NULL;
	r->cap_mask = 0;
}

void
df_infer_seqlen(size_t S, size_t T, size_t C, size_t *source, size_t *target)
{
	size_t max_target, room;

	if (T * 2 < C)
		max_target = C;
	else if (S * 2 < C)
		max_target = C - S;
	else /* in doubles and in this order, to round as LLaMA-Factory does */
		max_target = (size_t)((double)C * ((double)T / (double)(S + T)));
	*target = max_target < T ? max_target : T;
	room = C - *target;
	*source = room < S ? room : S;
}

/* Append n ids with one mask value. */
static int
put(struct df_encoded *out, const uint32_t *ids, size_t n, uint8_t mask, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(df_grow(&out->mask, &out->cap_mask, out->ids.n + n, 1, "label mask", err));
	if (n > 0)
		memset(out->mask + out->ids.n, mask, n);
	DF_TRY(df_ids_add(&out->ids, ids, n, err));
out:
	return rc;
}

/* ---- turns -------------------------------------------------------------- */

/*
 * The ids before the first turn.  When the template fuses system text and question, *system is left for the
 * question.
 */
static int
encode_opening(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex, struct df_span *system,
    bool *has_system, struct df_err *err)
{
	int rc = DF_OK;

	s->ids.n = 0;
	DF_TRY(df_enc_system(e, s, ex, system, err));
	*has_system = system->n > 0 || ex->n_tools > 0;
	if (ex->n_system == 0 && ex->n_tools == 0) {
		DF_TRY(df_ids_add(&s->ids, e->system_ids.v, e->system_ids.n, err));
		goto out;
	}
	DF_TRY(df_enc_slot(e, s, DF_SLOT_PREFIX, (struct df_span){ "", 0 }, NULL, &s->ids, err));
	if (!e->fuse_system)
		DF_TRY(df_enc_slot(e, s, DF_SLOT_SYSTEM, *system, NULL, &s->ids, err));
out:
	return rc;
}

/* The question of round r, or a tool's result. */
static int
encode_source(const struct df_encoder *e, struct df_encscratch *s, const struct df_turn *t, size_t r,
    const struct df_span *system, struct df_err *err)
{
	struct df_span text = { t->text, t->n };
	int rc = DF_OK;

	if (t->role == DF_ROLE_OBSERVATION)
		return df_enc_slot(e, s, DF_SLOT_OBSERVATION, text, NULL, &s->ids, err);
	if (e->fuse_system && system)
		DF_TRY(df_enc_fuse(e, s, *system, text, &text, err));
	DF_TRY(df_enc_slot(e, s, DF_SLOT_USER, text, e->fuse_system ? NULL : &r, &s->ids, err));
out:
	return rc;
}

static int
encode_answer(
    const struct df_encoder *e, struct df_encscratch *s, enum df_role role, struct df_span text, struct df_err *err)
{
	int rc = DF_OK;

	if (role != DF_ROLE_FUNCTION)
		return df_enc_slot(e, s, DF_SLOT_ASSISTANT, text, NULL, &s->ids, err);
	DF_TRY(df_enc_calls(e, s, text, &text, err));
	DF_TRY(df_enc_slot(e, s, DF_SLOT_FUNCTION, text, NULL, &s->ids, err));
out:
	return rc;
}

/*
 * The answer of round r as it will be encoded, and whether it gets an empty thought.  A prompt may have no last
 * answer.
 *
 * Reasoning templates: an answer without a thought gets an empty one.  When only the last answer counts, earlier
 * ones lose their thoughts and get no empty ones.
 */
static int
take_answer(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex, size_t r, bool prompt,
    struct df_span *answer, bool *empty_thought, struct df_err *err)
{
	const bool last_counts = prompt || (e->opts.mask_history && !e->opts.preserve_thinking);
	const bool last = 2 * r + 2 >= ex->n_turns, old = !last && last_counts;
	const bool off = e->opts.thinking == DF_THINKING_FALSE && (last || !prompt);
	int rc = DF_OK;

	*answer = (struct df_span){ "", 0 };
	*empty_thought = false;
	if (2 * r + 1 < ex->n_turns)
		*answer = (struct df_span){ ex->turns[2 * r + 1].text, ex->turns[2 * r + 1].n };
	if (!e->reasoning)
		return 0;
	if (off || (old && !e->opts.preserve_thinking))
		DF_TRY(df_enc_strip(e, s, *answer, answer, err));
	*empty_thought = !old && !df_enc_has_thought(e, *answer);
out:
	return rc;
}

/*
 * All turns into s->ids; turn i is [ends[i-1], ends[i]).  A prompt ends where the last answer begins.  An empty
 * thought is before its answer, as a target, or at the end of the question.
 */
static int
encode_turns(
    const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex, bool prompt, struct df_err *err)
{
	const bool learn_thought = e->opts.thinking == DF_THINKING_TRUE;
	const size_t n_rounds = (ex->n_turns + 1) / 2;
	struct df_span system, answer;
	bool has_system, empty_thought;
	int rc = DF_OK;

	DF_TRY(df_grow(&s->ends, &s->cap_ends, 2 * n_rounds, sizeof(*s->ends), "turns", err));
	DF_TRY(encode_opening(e, s, ex, &system, &has_system, err));
	for (size_t r = 0; r < n_rounds; r++) {
		DF_TRY(take_answer(e, s, ex, r, prompt, &answer, &empty_thought, err));
		DF_TRY(encode_source(e, s, &ex->turns[2 * r], r, r == 0 && has_system ? &system : NULL, err));
		if (empty_thought && !learn_thought)
			DF_TRY(df_ids_add(&s->ids, e->thought_ids.v, e->thought_ids.n, err));
		s->ends[2 * r] = s->ids.n;
		if (prompt && r + 1 == n_rounds)
			break;
		if (empty_thought && learn_thought)
			DF_TRY(df_ids_add(&s->ids, e->thought_ids.v, e->thought_ids.n, err));
		DF_TRY(encode_answer(e, s, ex->turns[2 * r + 1].role, answer, err));
		s->ends[2 * r + 1] = s->ids.n;
	}
out:
	return rc;
}

int
df_encode_prompt(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex, struct df_ids *out,
    struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(encode_turns(e, s, ex, true, err));
	DF_TRY(df_ids_add(out, s->ids.v, s->ids.n, err));
out:
	return rc;
}

/* ---- rows --------------------------------------------------------------- */

/*
 * Divide cutoff_len among the rounds: in order, or from the last to the first when only the last answer counts
 * (mask_history).  A round that does not fit is cut to what is left, so that the rounds after it get nothing.
 */
static int
cut_rounds(const struct df_encoder *e, struct df_encscratch *s, size_t n_rounds, struct df_encode_info *info,
    struct df_err *err)
{
	size_t left = e->opts.cutoff_len - e->efficient_eos; /* the eos at the end needs its place */
	int rc = df_grow(&s->cuts, &s->cap_cuts, n_rounds, sizeof(*s->cuts), "rounds", err);

	for (size_t i = 0; i < n_rounds && rc == 0; i++) {
		const size_t r = e->opts.mask_history ? n_rounds - 1 - i : i;
		const size_t start = r ? s->ends[2 * r - 1] : 0;
		const size_t S = s->ends[2 * r] - start, T = s->ends[2 * r + 1] - s->ends[2 * r];
		struct df_enc_cut *c = &s->cuts[r];

		*c = (struct df_enc_cut){ 0, 0 };
		if (left > 0)
			df_infer_seqlen(S, T, left, &c->source, &c->target);
		left -= c->source + c->target;
		info->truncated |= c->source < S || c->target < T;
	}
	return rc;
}

/*
 * no_prompt: what is before the answer of round r, into s->header.  That is what the template writes after a question,
 * but for the end of the question, where the template ends an answer in the same way; the empty thought of a question;
 * and the template's prefix before the first answer.
 */
static int
encode_header(
    const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex, size_t r, struct df_err *err)
{
	const bool tool = ex->turns[2 * r].role == DF_ROLE_OBSERVATION;
	const struct df_ids *end = &e->answer_end;
	struct df_ids *h = &s->header;
	struct df_span answer;
	bool empty_thought;
	size_t at;
	int rc = DF_OK;

	h->n = 0;
	if (r == 0 || e->opts.mask_history)
		DF_TRY(df_enc_slot(e, s, DF_SLOT_PREFIX, (struct df_span){ "", 0 }, NULL, h, err));
	at = h->n;
	DF_TRY(df_enc_slot_end(
	    e, s, tool ? DF_SLOT_OBSERVATION : DF_SLOT_USER, tool || e->fuse_system ? NULL : &r, h, err));
	if (end->n > 0 && h->n - at > end->n && memcmp(h->v + at, end->v, end->n * sizeof(*end->v)) == 0) {
		h->n -= end->n;
		memmove(h->v + at, h->v + at + end->n, (h->n - at) * sizeof(*h->v));
	}
	DF_TRY(take_answer(e, s, ex, r, false, &answer, &empty_thought, err));
	if (empty_thought && e->opts.thinking != DF_THINKING_TRUE)
		DF_TRY(df_ids_add(h, e->thought_ids.v, e->thought_ids.n, err));
out:
	return rc;
}

/*
 * With efficient_eos answers have no eos of their own.  The label at the beginning of the next question is still
 * eos, because a model should generate it there.  The round that LLaMA-Factory handles first has no such label: the
 * first one, or the last one when it goes backwards (mask_history).
 */
static int
encode_sft(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex, struct df_encoded *out,
    struct df_encode_info *info, struct df_err *err)
{
	const size_t n_rounds = ex->n_turns / 2, first = e->opts.mask_history ? n_rounds - 1 : 0;
	int rc = DF_OK;

	DF_TRY(encode_turns(e, s, ex, false, err));
	DF_TRY(cut_rounds(e, s, n_rounds, info, err));
	for (size_t r = 0; r < n_rounds; r++) {
		const uint32_t *source = s->ids.v + (r ? s->ends[2 * r - 1] : 0);
		const uint32_t *target = s->ids.v + s->ends[2 * r];
		const bool learn = !e->opts.mask_history || r + 1 == n_rounds;
		const size_t at = out->ids.n;
		struct df_enc_cut c = s->cuts[r];

		if (e->opts.no_prompt && !learn)
			continue;
		if (e->opts.no_prompt) {
			DF_TRY(encode_header(e, s, ex, r, err));
			source = s->header.v;
			c.source = s->header.n < c.source ? s->header.n : c.source;
		}
		DF_TRY(put(out, source, c.source, e->opts.train_on_prompt ? MASK_SELF : MASK_NONE, err));
		DF_TRY(put(out, target, c.target, learn ? MASK_SELF : MASK_NONE, err));
		info->n += c.source + c.target;
		info->n_targets += (e->opts.train_on_prompt ? c.source : 0) + (learn ? c.target : 0);
		if (e->efficient_eos && r != first && c.source > 0) {
			out->mask[at] = MASK_EOS;
			info->n_targets++;
		}
	}
	if (e->efficient_eos) {
		DF_TRY(put(out, &e->eos_id, 1, MASK_SELF, err));
		info->n++;
		info->n_targets++;
	}
out:
	return rc;
}

/*
 * The document and its eos as one string, as in LLaMA-Factory.  A padding token is never a target, not even when it
 * is the eos (a tokenizer without pad).
 */
static int
encode_pt(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex, struct df_encoded *out,
    struct df_encode_info *info, struct df_err *err)
{
	size_t n;
	int rc = DF_OK;

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
is_bare(const struct df_enc_slot *slot)
{
	for (size_t i = 0; i < slot->n; i++)
		if (slot->elem[i].ids.n + slot->elem[i].n_before + slot->elem[i].n_after > 0)
			return false;
	return true;
}

bool
df_encode_is_empty(const struct df_encoder *e, const struct df_example *ex)
{
	size_t n = e->system_ids.n + ex->n_system + ex->n_tools;

	if (e->opts.stage == DF_STAGE_PT)
		return ex->turns[0].n + e->eos.len + e->bos.len == 0;
	for (size_t i = 0; i < ex->n_turns; i++)
		n += ex->turns[i].n;
	for (enum df_slot i = DF_SLOT_USER; i < DF_SLOT_COUNT && n == 0; i++)
		n += !is_bare(&e->slot[i]);
	return n == 0 && !e->efficient_eos && e->thought_ids.n == 0;
}

int
df_encode_check(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex, struct df_err *err)
{
	struct df_span text;
	bool empty_thought;
	int rc = DF_OK;

	if (e->opts.stage == DF_STAGE_PT)
		return 0;
	DF_TRY(df_enc_system(e, s, ex, &text, err));
	for (size_t i = 1; i < ex->n_turns; i += 2) {
		if (ex->turns[i].role != DF_ROLE_FUNCTION)
			continue;
		DF_TRY(take_answer(e, s, ex, i / 2, false, &text, &empty_thought, err));
		DF_TRY(df_enc_calls(e, s, text, &text, err));
	}
out:
	return rc;
}

const char *
df_unlearnt_about(enum df_unlearnt u)
{
	static const char *const about[DF_UNLEARNT_COUNT] = { [DF_UNLEARNT_NONE] = "are learnt",
		[DF_UNLEARNT_CUT] =
		    "have nothing left of their answers within --cutoff-len: at most their end (eos) is a target",
		[DF_UNLEARNT_EMPTY] = "have no text to learn: at most their end (eos) is a target" };

	return about[u];
}

/* Is there any text in the answers that are targets, before they are cut? */
static int
learns_text(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex, bool *has_text,
    struct df_err *err)
{
	struct df_span answer;
	bool empty_thought;
	int rc = DF_OK;

	*has_text = e->opts.stage == DF_STAGE_PT && ex->turns[0].n > 0;
	for (size_t i = 0; e->opts.stage != DF_STAGE_PT && !*has_text && i + 1 < ex->n_turns; i += 2) {
		if (e->opts.mask_history && i + 2 < ex->n_turns)
			continue;
		DF_TRY(take_answer(e, s, ex, i / 2, false, &answer, &empty_thought, err));
		*has_text = answer.n > 0 || (e->opts.train_on_prompt && ex->turns[i].n > 0);
	}
out:
	return rc;
}

/*
 * Does the row at `at` have a target other than the eos of efficient_eos?  A target at its first position does not
 * count, as it is not predicted.
 */
static bool
has_target(const struct df_encoder *e, const struct df_encoded *rows, size_t at)
{
	const size_t end = rows->ids.n - (e->opts.stage != DF_STAGE_PT && e->efficient_eos);

	for (size_t i = at + 1; i < end; i++)
		if (rows->mask[i] == MASK_SELF)
			return true;
	return false;
}

int
df_encode(const struct df_encoder *e, struct df_encscratch *s, const struct df_example *ex, struct df_encoded *out,
    struct df_encode_info *info, struct df_err *err)
{
	const size_t at = out->ids.n;
	bool has_text;
	int rc;

	*info = (struct df_encode_info){ 0 };
	if (e->opts.stage == DF_STAGE_PT)
		DF_TRY(encode_pt(e, s, ex, out, info, err));
	else
		DF_TRY(encode_sft(e, s, ex, out, info, err));
	DF_TRY(learns_text(e, s, ex, &has_text, err));
	if (!has_text)
		info->unlearnt = DF_UNLEARNT_EMPTY;
	else if (!has_target(e, out, at))
		info->unlearnt = info->truncated ? DF_UNLEARNT_CUT : DF_UNLEARNT_EMPTY;
out:
	return rc;
}
