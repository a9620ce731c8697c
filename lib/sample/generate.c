/*
 * generate.c - continuous batching.
 *
 *	jobs    prompt 0 draw 0 | 0 1 | 0 2 | 1 0 | ...        one line, emitted in this order
 *	          done             live  done  live  waiting
 *	slots   [prompt 0 . . .] [prompt 1 . . .] ...          each runs a job, or waits for one
 *
 * A job is admitted when a slot is free.  The slot gets the prompt, and the logits for the first token: by a prefill
 * shared with the other prompts that are admitted now, or as a copy from a slot that begins with the same prompt.  A
 * prefill is the forward to the bit, and copies are copies; so a completion does not depend on which of the two it was.
 */
#include "sample/generate.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/stop.h"

#define SLOTS_MAX      64
#define PREFILL_TOKENS 2048 /* of one call; a longer single prompt is run in pieces */
#define AHEAD          4096 /* jobs that may be done while the first one in line is not */
#define NOTHING        SIZE_MAX

struct job {
	size_t prompt;
	uint32_t draw;
	struct df_ids ids;
	double logprob;
	enum df_finish finish;
	size_t n_text; /* bytes of its text before a stop text */
	bool done;
};

struct slot {
	bool live;
	uint64_t job;
	size_t prompt; /* the prompt at its start, whose logits are in g->first; or NOTHING */
};

struct picker {
	struct df_warp_scratch warp;
	struct df_buf text;
};

struct gen {
	struct df_model *m;
	const struct df_prompts *p;
	const struct df_generate_opts *o;
	struct df_pool *pool;
	struct df_work *work;
	struct df_cache *cache;
	size_t n_slots, n_vocab;
	struct slot *slot;
	struct job *job; /* [n_jobs_kept], job j at j mod n_jobs_kept */
	size_t n_kept;
	uint64_t total, next_admit, next_emit; /* jobs [o->first, total) */

	/* an admission */
	struct df_ids ids;
	uint64_t *offsets;
	uint32_t *fill;                /* [n_slots] slots to be filled by a prefill ... */
	uint32_t *copy_to, *copy_from; /* ... and slots to be copied after it */
	size_t n_fill, n_copy;
	float *first; /* [n_slots, V] logits after each slot's prompt */

	/* a step */
	uint32_t *live, *last; /* [n_slots] */
	size_t n_live;
	float *logits;         /* [n_slots, V] */
	const float **row;     /* [n_slots] where the logits of live[i] are */
	struct picker *picker; /* [threads] */
	struct df_err *errs;   /* [n_slots] */
	int *rcs;
	struct df_buf text;
};

const char *
df_finish_name(enum df_finish f)
{
	static const char *const names[] = { "length", "eos", "stop" };

	return names[f];
}

static struct job *
job_of(const struct gen *g, uint64_t j)
{
	return &g->job[j % g->n_kept];
}

static size_t
prompt_len(const struct gen *g, size_t p)
{
	return (size_t)(g->p->offsets[p + 1] - g->p->offsets[p]);
}

/* ---- admission ------------------------------------------------------------- */

/* A free slot for a job on prompt p, preferably one that already holds it; NOTHING when all are taken. */
static size_t
free_slot(const struct gen *g, size_t p)
{
	size_t found = NOTHING;

	for (size_t i = 0; i < g->n_slots; i++) {
		if (g->slot[i].live)
			continue;
		if (g->slot[i].prompt == p)
			return i;
		if (found == NOTHING)
			found = i;
	}
	return found;
}

static size_t
slot_with(const struct gen *g, size_t p)
{
	for (size_t i = 0; i < g->n_slots; i++)
		if (g->slot[i].prompt == p)
			return i;
	return NOTHING;
}

/* Put the next job into slot i. */
static int
admit(struct gen *g, size_t i, struct df_err *err)
{
	struct job *j = job_of(g, g->next_admit);
	const size_t p = (size_t)(g->next_admit / g->o->n_samples), n = prompt_len(g, p), from = slot_with(g, p);
	int rc = DF_OK;

	j->prompt = p;
	j->draw = (uint32_t)(g->next_admit % g->o->n_samples);
	j->ids.n = 0;
	j->logprob = 0;
	j->done = false;
	if (g->slot[i].prompt == p) {
		df_cache_cut(g->cache, (uint32_t)i, n);
	} else if (from != NOTHING) {
		g->copy_from[g->n_copy] = (uint32_t)from;
		g->copy_to[g->n_copy++] = (uint32_t)i;
	} else {
		DF_TRY(df_grow(&g->ids.v, &g->ids.cap, g->ids.n + n, sizeof(*g->ids.v), "prompts", err));
		memcpy(g->ids.v + g->ids.n, g->p->ids + g->p->offsets[p], n * sizeof(*g->ids.v));
		g->ids.n += n;
		g->fill[g->n_fill++] = (uint32_t)i;
		g->offsets[g->n_fill] = g->ids.n;
	}
	g->slot[i] = (struct slot){ true, g->next_admit++, p };
	g->live[g->n_live] = (uint32_t)i;
	g->row[g->n_live++] = g->first + i * g->n_vocab;
out:
	return rc;
}

/* Fill free slots; g->live lists the slots filled, g->row the logits after their prompts. */
static int
admit_all(struct gen *g, struct df_err *err)
{
	const size_t v = g->n_vocab;
	int rc = DF_OK;

	g->n_fill = g->n_copy = g->ids.n = g->n_live = 0;
	while (g->next_admit < g->total && g->next_admit - g->next_emit < g->n_kept) {
		const size_t p = (size_t)(g->next_admit / g->o->n_samples), i = free_slot(g, p);

		if (i == NOTHING || (g->n_fill > 0 && g->ids.n + prompt_len(g, p) > PREFILL_TOKENS))
			break;
		DF_TRY(admit(g, i, err));
	}
	if (g->n_fill > 0) {
		const struct df_tokens b = { .n = g->n_fill, .offsets = g->offsets, .ids = g->ids.v };

		if (g->ids.n > PREFILL_TOKENS) { /* one prompt alone in its call */
			df_cache_cut(g->cache, g->fill[0], 0);
			DF_TRY(df_model_extend_long(
			    g->m, g->work, g->cache, g->fill[0], g->ids.v, g->ids.n, g->logits, err));
		} else {
			DF_TRY(df_model_prefill(g->m, g->work, g->cache, &b, g->fill, g->logits, err));
		}
		for (size_t i = 0; i < g->n_fill; i++)
			memcpy(g->first + g->fill[i] * v, g->logits + i * v, v * sizeof(*g->first));
	}
	for (size_t i = 0; i < g->n_copy; i++) {
		const uint32_t from = g->copy_from[i], to = g->copy_to[i];

		DF_TRY(df_cache_copy(g->cache, from, to, prompt_len(g, g->slot[to].prompt), err));
		memcpy(g->first + to * v, g->first + from * v, v * sizeof(*g->first));
	}
out:
	return rc;
}

/* ---- text ------------------------------------------------------------------ */

int
df_generate_text(const struct df_tokenizer *tok, const uint32_t *ids, size_t n, struct df_buf *out, struct df_err *err)
{
	const uint32_t limit = df_tokenizer_vocab_size(tok);
	uint32_t *known = NULL;
	size_t n_known = 0;
	int rc;

	while (n_known < n && ids[n_known] < limit)
		n_known++;
	if (n_known == n)
		return df_tokenizer_decode(tok, ids, n, out, err);
	DF_TRY(df_alloc(&known, n, sizeof(*known), "token ids", err));
	n_known = 0;
	for (size_t i = 0; i < n; i++)
		if (ids[i] < limit)
			known[n_known++] = ids[i];
	rc = df_tokenizer_decode(tok, known, n_known, out, err);
out:
	free(known);
	return rc;
}

/* ---- a step ---------------------------------------------------------------- */

/* Does the text of a job hold a stop text?  Sets where the first one begins. */
static int
find_stop(const struct gen *g, struct job *j, struct df_buf *text, bool *found, struct df_err *err)
{
	size_t first = NOTHING;
	int rc;

	*found = false;
	df_buf_clear(text);
	DF_TRY(df_generate_text(g->o->tok, j->ids.v, j->ids.n, text, err));
	for (size_t i = 0; i < g->o->n_stop; i++) {
		const char *at =
		    text->len > 0 ? memmem(text->data, text->len, g->o->stop[i], strlen(g->o->stop[i])) : NULL;

		if (at != NULL && (size_t)(at - text->data) < first)
			first = (size_t)(at - text->data);
	}
	if (first != NOTHING) {
		j->n_text = first;
		*found = true;
	}
out:
	return rc;
}

/* Pick the next token of live sequence i, and see whether it ends the sequence. */
static int
pick(struct gen *g, size_t i, struct picker *k, struct df_err *err)
{
	struct job *j = job_of(g, g->slot[g->live[i]].job);
	const size_t t = j->ids.n;
	bool stops = false;
	double u = 0, logprob;
	uint32_t id;
	int rc;

	if (g->o->warp.temperature > 0)
		u = df_rng_uniform(
		    g->o->seed, DF_RNG_GENERATE, (uint32_t)t, g->p->id[j->prompt] << 24 | (uint64_t)j->draw);
	rc = df_warp_pick(&g->o->warp, g->row[i], g->n_vocab, u, &k->warp, &id, &logprob, err);
	if (rc != DF_OK) {
		df_err_prefix(err, "prompt %llu, token %zu: ", (unsigned long long)g->p->id[j->prompt], t);
		goto out;
	}
	DF_TRY(df_grow(&j->ids.v, &j->ids.cap, t + 1, sizeof(*j->ids.v), "a completion", err));
	j->ids.v[j->ids.n++] = id;
	j->logprob += logprob;
	for (size_t e = 0; e < g->o->n_eos; e++) {
		if (g->o->eos[e] == id) {
			j->finish = DF_FINISH_EOS;
			j->done = true;
			goto out;
		}
	}
	if (g->o->n_stop > 0)
		DF_TRY(find_stop(g, j, &k->text, &stops, err));
	j->finish = stops ? DF_FINISH_STOP : DF_FINISH_LENGTH;
	j->done = stops || j->ids.n == g->o->max_new;
out:
	return rc;
}

static void
pick_task(void *ctx, size_t i, int worker)
{
	struct gen *g = ctx;

	g->rcs[i] = pick(g, i, &g->picker[worker], &g->errs[i]);
}

/* Pick the next tokens of g->live, from g->row. */
static int
pick_all(struct gen *g, struct df_err *err)
{
	df_pool_for(g->pool, g->n_live, pick_task, g);
	for (size_t i = 0; i < g->n_live; i++) {
		if (g->rcs[i] != DF_OK) {
			*err = g->errs[i];
			return g->rcs[i];
		}
		if (job_of(g, g->slot[g->live[i]].job)->done)
			g->slot[g->live[i]].live = false;
	}
	return DF_OK;
}

/* Add one token to every sequence. */
static int
step(struct gen *g, struct df_err *err)
{
	int rc = DF_OK;

	g->n_live = 0;
	for (size_t i = 0; i < g->n_slots; i++) {
		const struct job *j = job_of(g, g->slot[i].job);

		if (!g->slot[i].live)
			continue;
		g->row[g->n_live] = g->logits + g->n_live * g->n_vocab;
		g->live[g->n_live] = (uint32_t)i;
		g->last[g->n_live++] = j->ids.v[j->ids.n - 1];
	}
	DF_TRY(df_model_decode(g->m, g->work, g->cache, g->n_live, g->live, g->last, g->logits, err));
	rc = pick_all(g, err);
out:
	return rc;
}

/* ---- the end of a job ------------------------------------------------------ */

static int
emit_job(struct gen *g, struct job *j, df_completion_fn *emit, void *ctx, struct df_err *err)
{
	struct df_completion c = { .prompt = j->prompt,
		.draw = j->draw,
		.ids = j->ids.v,
		.n = j->ids.n,
		.finish = j->finish,
		.logprob = j->logprob };
	int rc = DF_OK;

	if (g->o->tok != NULL) {
		df_buf_clear(&g->text);
		df_buf_puts(&g->text, "");
		DF_TRY(df_generate_text(g->o->tok, j->ids.v, j->ids.n - (j->finish == DF_FINISH_EOS), &g->text, err));
		DF_TRY(df_buf_check(&g->text, err));
		c.text = g->text.data;
		c.n_text = j->finish == DF_FINISH_STOP ? j->n_text : g->text.len;
	}
	DF_TRY(emit(ctx, &c, err));
	g->next_emit++;
	if (g->o->progress)
		df_progress(g->next_emit - g->o->first, g->total - g->o->first, "completions");
out:
	return rc;
}

/* ---- the run --------------------------------------------------------------- */

static int
check(const struct gen *g, struct df_err *err)
{
	const struct df_generate_opts *o = g->o;

	if (o->n_samples < 1 || o->n_samples > 1u << 24 || o->max_new < 1 || o->max_new > INT32_MAX)
		return df_fail(err, DF_ERANGE, "%u completions of %zu tokens", o->n_samples, o->max_new);
	if (o->n_stop > 0 && o->tok == NULL)
		return df_fail(err, DF_EUSAGE, "stop texts need a tokenizer");
	for (size_t i = 0; i < o->n_stop; i++)
		if (o->stop[i][0] == '\0')
			return df_fail(err, DF_EUSAGE, "a stop text is empty");
	for (size_t p = 0; p < g->p->n; p++) {
		if (prompt_len(g, p) == 0)
			return df_fail(err, DF_EFORMAT, "prompt %llu has no token", (unsigned long long)g->p->id[p]);
		if (g->p->id[p] >= (uint64_t)1 << 40)
			return df_fail(err, DF_ERANGE, "the id of prompt %llu is too large: it must be below 2^40",
			    (unsigned long long)g->p->id[p]);
	}
	return DF_OK;
}

/* As many sequences as were asked for, or as half of the free memory holds. */
static int
choose_slots(struct gen *g, size_t n_positions, struct df_err *err)
{
	const uint64_t left = g->total - g->next_emit;
	size_t bytes;
	int rc;

	g->n_slots = g->o->n_slots > 0 ? g->o->n_slots : SLOTS_MAX;
	if (g->n_slots > left)
		g->n_slots = left > 0 ? (size_t)left : 1;
	if (g->o->n_slots > 0)
		return DF_OK;
	DF_TRY(df_cache_bytes(g->m, 1, n_positions, &bytes, err));
	while (g->n_slots > 1 && g->n_slots * bytes > df_backend_available(df_model_backend(g->m)) / 2)
		g->n_slots--;
out:
	return rc;
}

static int
open_gen(struct gen *g, struct df_err *err)
{
	const size_t n_threads = (size_t)df_pool_size(g->pool), positions = g->p->longest - 1 + g->o->max_new;
	size_t n;
	int rc;

	if (positions + 1 > df_model_config(g->m)->max_positions)
		df_warn("sequences may grow to %zu tokens, the model was made for %zu", positions + 1,
		    df_model_config(g->m)->max_positions);
	DF_TRY(choose_slots(g, positions, err));
	n = g->n_slots;
	g->n_vocab = df_model_config(g->m)->n_vocab;
	g->n_kept = n > AHEAD ? n : AHEAD;
	DF_TRY(df_work_new(&g->work, g->m, err));
	DF_TRY(df_cache_new(&g->cache, g->m, n, positions, err));
	DF_TRY(df_alloc(&g->slot, n, sizeof(*g->slot), "slots", err));
	for (size_t i = 0; i < n; i++)
		g->slot[i].prompt = NOTHING;
	DF_TRY(df_alloc(&g->job, g->n_kept, sizeof(*g->job), "completions", err));
	DF_TRY(df_alloc(&g->offsets, n + 1, sizeof(*g->offsets), "slots", err));
	DF_TRY(df_alloc(&g->fill, n, sizeof(*g->fill), "slots", err));
	DF_TRY(df_alloc(&g->copy_to, n, sizeof(*g->copy_to), "slots", err));
	DF_TRY(df_alloc(&g->copy_from, n, sizeof(*g->copy_from), "slots", err));
	DF_TRY(df_alloc(&g->live, n, sizeof(*g->live), "slots", err));
	DF_TRY(df_alloc(&g->row, n, sizeof(*g->row), "slots", err));
	DF_TRY(df_alloc(&g->last, n, sizeof(*g->last), "slots", err));
	DF_TRY(df_alloc(&g->errs, n, sizeof(*g->errs), "slots", err));
	DF_TRY(df_alloc(&g->rcs, n, sizeof(*g->rcs), "slots", err));
	DF_TRY(df_size_mul(n, g->n_vocab, &n, "logits", err));
	DF_TRY(df_alloc(&g->logits, n, sizeof(*g->logits), "logits", err));
	DF_TRY(df_alloc(&g->first, n, sizeof(*g->first), "logits", err));
	DF_TRY(df_alloc(&g->picker, n_threads, sizeof(*g->picker), "threads", err));
out:
	return rc;
}

static void
close_gen(struct gen *g)
{
	for (size_t i = 0; g->job != NULL && i < g->n_kept; i++)
		df_ids_release(&g->job[i].ids);
	for (int i = 0; g->picker != NULL && i < df_pool_size(g->pool); i++) {
		df_warp_scratch_release(&g->picker[i].warp);
		df_buf_release(&g->picker[i].text);
	}
	df_ids_release(&g->ids);
	df_buf_release(&g->text);
	df_cache_free(g->cache);
	df_work_free(g->work);
	free(g->slot);
	free(g->job);
	free(g->offsets);
	free(g->fill);
	free(g->copy_to);
	free(g->copy_from);
	free(g->live);
	free(g->last);
	free(g->errs);
	free(g->rcs);
	free(g->logits);
	free(g->first);
	free(g->row);
	free(g->picker);
}

int
df_generate(struct df_model *m, struct df_pool *pool, const struct df_prompts *p, const struct df_generate_opts *o,
    df_completion_fn *emit, void *ctx, struct df_err *err)
{
	struct gen g = { .m = m, .p = p, .o = o, .pool = pool };
	struct df_err mine = DF_ERR_INIT;
	int rc;

	err = err != NULL ? err : &mine;
	DF_TRY(check(&g, err));
	g.total = (uint64_t)p->n * o->n_samples;
	if (o->end < g.total)
		g.total = o->end;
	g.next_admit = g.next_emit = o->first;
	if (g.next_emit >= g.total)
		goto out;
	DF_TRY(open_gen(&g, err));
	while (g.next_emit < g.total) {
		if (df_stop_requested()) {
			rc = df_fail(err, DF_ESTOPPED, "generation stopped by a signal");
			goto out;
		}
		DF_TRY(admit_all(&g, err));
		DF_TRY(pick_all(&g, err));
		DF_TRY(step(&g, err));
		while (g.next_emit < g.next_admit && job_of(&g, g.next_emit)->done)
			DF_TRY(emit_job(&g, job_of(&g, g.next_emit), emit, ctx, err));
	}
out:
	close_gen(&g);
	return rc;
}
