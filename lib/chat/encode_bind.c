/*
 * encode_bind.c - bind a template to its tokenizer, once.
 *
 * Elements without a placeholder become ids here, and so does the system text that most rows share.  For a row it
 * remains to put its texts between the fixed parts, and to tokenise each text element separately.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "chat/encode_priv.h"

static const char content_mark[] = "{{content}}";
static const char idx_mark[] = "{{idx}}";

static int
bind_elem(struct df_enc_elem *b, const struct df_elem *e, const struct df_encoder *enc, struct df_tokscratch *ts,
    bool numbered, struct df_err *err)
{
	uint32_t id = DF_NO_TOKEN;
	const char *mark;

	b->is_fixed = true;
	switch (e->kind) {
	case DF_ELEM_BOS: id = df_tokenizer_bos(enc->tok); break;
	case DF_ELEM_EOS: id = enc->eos_id; break;
	case DF_ELEM_TOKEN:
		id = df_tokenizer_lookup(enc->tok, e->text);
		if (id == DF_NO_TOKEN)
			return df_fail(err, DF_EUNSUPPORTED, "the tokenizer has no token '%s'", e->text);
		break;
	default:
		mark = strstr(e->text, content_mark);
		if (!mark && !(numbered && strstr(e->text, idx_mark)))
			return df_tokenizer_encode(
			    enc->tok, ts, e->text, strlen(e->text), enc->opts.split_special, &b->ids, err);
		b->is_fixed = false;
		b->has_content = mark != NULL;
		b->before = e->text;
		b->n_before = mark ? (size_t)(mark - e->text) : strlen(e->text);
		b->after = mark ? mark + sizeof(content_mark) - 1 : "";
		b->n_after = strlen(b->after);
		return 0;
	}
	return id == DF_NO_TOKEN ? 0 : df_ids_add(&b->ids, &id, 1, err);
}

static int
bind_slots(struct df_encoder *e, const struct df_template *t, struct df_tokscratch *ts, struct df_err *err)
{
	struct df_template bare = { .efficient_eos = t->efficient_eos };
	int rc = DF_OK;

	for (enum df_slot i = 0; i < DF_SLOT_COUNT; i++) {
		struct df_enc_slot *b = &e->slot[i];
		/* With another tool format, calls use the bare slot of an answer. */
		const bool replaced = i == DF_SLOT_FUNCTION && e->opts.tool_format;
		const struct df_elem *elem = df_template_slot(replaced ? &bare : t, i);

		for (; elem->kind != DF_ELEM_END; elem++)
			DF_TRY(bind_elem(&b->elem[b->n++], elem, e, ts, i == DF_SLOT_USER && !t->fuse_system, err));
	}
out:
	return rc;
}

/* An element with `content` in it, or, content NULL, only what comes after its place. */
static int
put_elem(const struct df_encoder *e, struct df_encscratch *s, const struct df_enc_elem *el,
    const struct df_span *content, const size_t *round, struct df_ids *ids, struct df_err *err)
{
	const char *mark;
	int rc = DF_OK;

	if (el->is_fixed)
		return df_ids_add(ids, el->ids.v, el->ids.n, err);
	df_buf_clear(&s->text);
	if (content || !el->has_content)
		df_buf_add(&s->text, el->before, el->n_before);
	if (content && el->has_content)
		df_buf_add(&s->text, content->s, content->n);
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
		DF_TRY(df_tokenizer_encode(e->tok, s->tok, s->text.data, s->text.len, e->opts.split_special, ids, err));
out:
	return rc;
}

int
df_enc_slot(const struct df_encoder *e, struct df_encscratch *s, enum df_slot which, struct df_span content,
    const size_t *round, struct df_ids *ids, struct df_err *err)
{
	const struct df_enc_slot *slot = &e->slot[which];
	int rc = DF_OK;

	for (size_t i = 0; i < slot->n; i++)
		DF_TRY(put_elem(e, s, &slot->elem[i], &content, round, ids, err));
out:
	return rc;
}

int
df_enc_slot_end(const struct df_encoder *e, struct df_encscratch *s, enum df_slot which, const size_t *round,
    struct df_ids *ids, struct df_err *err)
{
	const struct df_enc_slot *slot = &e->slot[which];
	size_t first = 0;
	int rc = DF_OK;

	while (first < slot->n && !slot->elem[first].has_content)
		first++;
	for (size_t i = first < slot->n ? first : 0; i < slot->n; i++)
		DF_TRY(put_elem(e, s, &slot->elem[i], NULL, round, ids, err));
out:
	return rc;
}

/* Stage pt works on strings: the texts of bos and eos are tokenised with the document. */
static int
bind_pt(struct df_encoder *e, const struct df_template *t, struct df_err *err)
{
	const uint32_t eos = df_tokenizer_eos(e->tok), bos = df_tokenizer_bos(e->tok);
	int rc = DF_OK;

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

/* The texts around thoughts and calls, and the ids of an empty thought. */
static int
bind_words(struct df_encoder *e, const struct df_template *t, struct df_tokscratch *ts, struct df_err *err)
{
	static const char *const thought[2] = { "<think>\n", "\n</think>\n\n" };
	static const char *const call[2] = { "<tool_call>", "</tool_call>" };
	static const char space[] = " \t\n\r\v\f";
	struct df_buf empty = DF_BUF_INIT;
	int rc = DF_OK;

	for (size_t i = 0; i < 2; i++) {
		const char *s;
		size_t n;

		e->call_words[i] = t->tool_call_words[i] ? t->tool_call_words[i] : call[i];
		e->thought[i] = s = t->thought_words[i] ? t->thought_words[i] : thought[i];
		df_buf_puts(&empty, s);
		s += strspn(s, space);
		for (n = strlen(s); n > 0 && strchr(space, s[n - 1]);)
			n--;
		DF_TRY(df_strndup(&e->thought_bare[i], s, n, err));
	}
	DF_TRY(df_buf_check(&empty, err));
	if (t->reasoning)
		DF_TRY(df_tokenizer_encode(
		    e->tok, ts, empty.data, empty.len, e->opts.split_special, &e->thought_ids, err));
out:
	df_buf_release(&empty);
	return rc;
}

static int
bind_stops(struct df_encoder *e, const struct df_template *t, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(df_ids_add(&e->stops, &e->eos_id, 1, err));
	for (const char *const *w = t->stop_words; *w; w++) {
		const uint32_t id = df_tokenizer_lookup(e->tok, *w);

		if (id != DF_NO_TOKEN && id != e->eos_id)
			DF_TRY(df_ids_add(&e->stops, &id, 1, err));
	}
out:
	return rc;
}

static int
check_opts(const struct df_template *t, const struct df_encode_opts *o, struct df_err *err)
{
	if (o->train_on_prompt && o->mask_history)
		return df_fail(err, DF_EUSAGE, "train_on_prompt and mask_history exclude each other");
	if (o->train_on_prompt && t->efficient_eos)
		return df_fail(err, DF_EUSAGE,
		    "train_on_prompt is not for the template '%s': where a question begins, it has the eos of the "
		    "answer before to teach",
		    t->name);
	if (o->no_prompt && (o->train_on_prompt || o->stage != DF_STAGE_SFT))
		return df_fail(err, DF_EUSAGE, "rows without their prompts need stage sft, without train_on_prompt");
	if (o->cutoff_len < 1)
		return df_fail(err, DF_EUSAGE, "cutoff_len must be at least 1");
	if (o->packing && o->stage != DF_STAGE_PT)
		return df_fail(err, DF_EUSAGE,
		    "packing is for stage pt; rows of stage sft are never padded, "
		    "so packing them would gain nothing");
	return o->date ? df_tools_check_date(o->date, err) : 0;
}

int
df_encoder_new(struct df_encoder **out, const struct df_template *t, struct df_tokenizer *tok,
    const struct df_encode_opts *opts, struct df_err *err)
{
	struct df_encscratch *s = NULL;
	struct df_encoder *e = NULL;
	struct df_span system;
	int rc = DF_OK;

	DF_TRY(check_opts(t, opts, err));
	DF_TRY(df_alloc(&e, 1, sizeof(*e), "encoder", err));
	e->tok = tok;
	e->opts = *opts;
	system.s = opts->default_system ? opts->default_system : t->default_system ? t->default_system : "";
	DF_TRY(df_strdup(&e->default_system, system.s, err));
	if (opts->date)
		DF_TRY(df_strdup(&e->date, opts->date, err));
	e->efficient_eos = t->efficient_eos;
	e->fuse_system = t->fuse_system;
	e->reasoning = t->reasoning;
	e->tool_format = t->tool_format;
	if (opts->tool_format)
		DF_TRY(df_tool_format_find(&e->tool_format, opts->tool_format, err));
	DF_TRY(df_template_fix_tokenizer(t, tok, &e->pad, err));
	e->eos_id = df_tokenizer_eos(tok);
	DF_TRY(bind_stops(e, t, err));
	DF_TRY(df_encscratch_new(&s, e, err));
	DF_TRY(bind_slots(e, t, s->tok, err));
	DF_TRY(bind_words(e, t, s->tok, err));
	system = (struct df_span){ e->default_system, strlen(e->default_system) };
	DF_TRY(df_enc_slot(e, s, DF_SLOT_PREFIX, (struct df_span){ "", 0 }, NULL, &e->system_ids, err));
	if (system.n > 0 && !e->fuse_system)
		DF_TRY(df_enc_slot(e, s, DF_SLOT_SYSTEM, system, NULL, &e->system_ids, err));
	if (opts->no_prompt)
		DF_TRY(df_enc_slot_end(e, s, DF_SLOT_ASSISTANT, NULL, &e->answer_end, err));
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
	for (size_t i = 0; i < DF_SLOT_COUNT; i++)
		for (size_t k = 0; k < e->slot[i].n; k++)
			df_ids_release(&e->slot[i].elem[k].ids);
	df_ids_release(&e->system_ids);
	df_ids_release(&e->thought_ids);
	df_ids_release(&e->stops);
	df_ids_release(&e->answer_end);
	df_buf_release(&e->bos);
	df_buf_release(&e->eos);
	free(e->thought_bare[0]);
	free(e->thought_bare[1]);
	free(e->default_system);
	free(e->date);
	free(e);
}

uint32_t
df_encoder_pad(const struct df_encoder *e)
{
	return e->pad;
}

const struct df_ids *
df_encoder_stops(const struct df_encoder *e)
{
	return &e->stops;
}

int
df_encscratch_new(struct df_encscratch **out, const struct df_encoder *e, struct df_err *err)
{
	struct df_encscratch *s = NULL;
	int rc = DF_OK;

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
	df_buf_release(&s->system);
	df_buf_release(&s->fused);
	df_buf_release(&s->answer);
	df_buf_release(&s->calls);
	df_ids_release(&s->ids);
	df_ids_release(&s->header);
	free(s->ends);
	free(s->cuts);
	free(s);
}
