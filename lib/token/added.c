/*
 * added.c - added tokens: they are found in the text before any other step.
 *
 * The rules are those of Hugging Face's added vocabulary.  The leftmost-longest token is taken.  One that fails
 * single_word, or is special while special tokens are plain text, is skipped but still consumes its match.  lstrip
 * and rstrip remove white space around it.  Adding a token again changes its flags, except that it stays in the
 * search list that it was first added to, and is also added to the other one unless it is special.
 *
 * The search walks a byte trie from every position whose byte begins some token.  When all tokens begin with the
 * same byte (usually '<'), memchr finds the positions.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "token/token_priv.h"

/* This bounds the work per position of a text. */
#define MAX_ADDED_BYTES 4096

/* --- tries ---------------------------------------------------------------------------------------------------- */

static int
new_node(struct tok_trie *t, unsigned char byte, uint32_t *node, struct df_err *err)
{
	int rc;

	DF_TRY(df_grow(&t->node, &t->cap, t->n + 1, sizeof(*t->node), "added tokens", err));
	t->node[t->n] = (struct tok_trie_node){ .id = DF_NO_TOKEN, .byte = byte };
	*node = (uint32_t)t->n++;
out:
	return rc;
}

static uint32_t
child_of(const struct tok_trie *t, uint32_t node, unsigned char byte)
{
	uint32_t c = t->node[node].child;

	while (c != 0 && t->node[c].byte != byte)
		c = t->node[c].sibling;
	return c;
}

static int
trie_add(struct tok_trie *t, const char *text, size_t n, uint32_t id, struct df_err *err)
{
	uint32_t at = 0, next;
	int rc = DF_OK;

	if (n == 0)
		return DF_OK;
	for (size_t i = 0; i < n; i++) {
		next = child_of(t, at, (unsigned char)text[i]);
		if (next == 0) {
			DF_TRY(new_node(t, (unsigned char)text[i], &next, err));
			t->node[next].sibling = t->node[at].child;
			t->node[at].child = next;
		}
		at = next;
	}
	/* Of two tokens with the same (normalized) text the first one counts. */
	if (t->node[at].id == DF_NO_TOKEN)
		t->node[at].id = id;
out:
	return rc;
}

static void
trie_release(struct tok_trie *t)
{
	free(t->node);
	*t = (struct tok_trie){ .only_start = -1 };
}

static void
trie_starts(struct tok_trie *t)
{
	int n = 0;

	memset(t->starts, 0, sizeof(t->starts));
	t->only_start = -1;
	for (uint32_t c = t->node[0].child; c != 0; c = t->node[c].sibling) {
		t->starts[t->node[c].byte] = true;
		t->only_start = n++ == 0 ? t->node[c].byte : -1;
	}
}

/* --- the list ------------------------------------------------------------------------------------------------- */

const struct tok_added_token *
df_tok_added_at(const struct tok_added *a, size_t i)
{
	return &a->token[a->by_id[i].at];
}

const struct tok_added_token *
df_tok_added_by_id(const struct tok_added *a, uint32_t id)
{
	size_t lo = 0, hi = a->n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (a->by_id[mid].id < id)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < a->n && a->by_id[lo].id == id ? df_tok_added_at(a, lo) : NULL;
}

const struct tok_added_token *
df_tok_added_by_text(const struct tok_added *a, const char *text, size_t n)
{
	uint32_t at = 0;

	if (a->n == 0)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if ((at = child_of(&a->names, at, (unsigned char)text[i])) == 0)
			return NULL;
	return a->names.node[at].id == DF_NO_TOKEN ? NULL : &a->token[a->names.node[at].id];
}

static bool
same_flags(struct tok_added_flags a, struct tok_added_flags b)
{
	return a.special == b.special && a.normalized == b.normalized && a.single_word == b.single_word &&
	    a.lstrip == b.lstrip && a.rstrip == b.rstrip;
}

static int
append(struct tok_added_token **list, size_t *count, size_t *cap, const char *text, size_t n, uint32_t id,
    struct tok_added_flags flags, struct df_err *err)
{
	struct tok_added_token t = { .n = n, .id = id, .flags = flags };
	int rc;

	DF_TRY(df_grow(list, cap, *count + 1, sizeof(**list), "added tokens", err));
	DF_TRY(df_strndup(&t.text, text, n, err));
	(*list)[(*count)++] = t;
out:
	return rc;
}

/* The next free id: after the vocabulary, and after the added tokens beyond it. */
static uint32_t
next_id(const struct tok_added *a, const struct tok_vocab_view *vocab)
{
	if (a->n == 0)
		return vocab->size;
	return a->max_id >= vocab->size || vocab->size == 0 ? a->max_id + 1 : vocab->size;
}

int
df_tok_added_add(struct tok_added *a, const char *text, size_t n, struct tok_added_flags flags,
    const struct tok_vocab_view *vocab, uint32_t *id, struct df_err *err)
{
	const struct tok_added_token *old = df_tok_added_by_text(a, text, n);
	bool was_special;
	uint32_t root;
	int rc;

	if (n == 0)
		return df_fail(err, DF_EFORMAT, "an added token is empty");
	if (n > MAX_ADDED_BYTES)
		return df_fail(err, DF_ERANGE, "added token '%.40s...' is longer than %d bytes", text, MAX_ADDED_BYTES);
	if (old != NULL && same_flags(old->flags, flags)) {
		*id = old->id;
		return DF_OK;
	}
	was_special = old != NULL && old->flags.special;
	*id = old != NULL ? old->id : vocab->find(vocab->ctx, text, n);
	if (*id == DF_NO_TOKEN)
		*id = next_id(a, vocab);
	if (!was_special)
		DF_TRY(append(&a->pattern, &a->n_patterns, &a->cap_patterns, text, n, *id, flags, err));
	if (old != NULL) {
		/* A token that was special stays special. */
		a->token[old - a->token].flags = flags;
		a->token[old - a->token].flags.special |= was_special;
		return DF_OK;
	}
	DF_TRY(append(&a->token, &a->n, &a->cap, text, n, *id, flags, err));
	if (a->n == 1 || *id > a->max_id)
		a->max_id = *id;
	if (a->names.n == 0)
		DF_TRY(new_node(&a->names, 0, &root, err));
	DF_TRY(trie_add(&a->names, text, n, (uint32_t)a->n - 1, err));
out:
	return rc;
}

static int
compare_ids(const void *a, const void *b)
{
	const struct tok_added_ref *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

static int
sort_ids(struct tok_added *a, struct df_err *err)
{
	int rc;

	free(a->by_id);
	a->by_id = NULL;
	DF_TRY(df_alloc(&a->by_id, a->n, sizeof(*a->by_id), "added tokens", err));
	for (size_t i = 0; i < a->n; i++)
		a->by_id[i] = (struct tok_added_ref){ a->token[i].id, (uint32_t)i };
	if (a->n > 1)
		qsort(a->by_id, a->n, sizeof(*a->by_id), compare_ids);
out:
	return rc;
}

int
df_tok_added_build(struct tok_added *a, const struct tok_norm *norm, struct df_err *err)
{
	struct tok_norm_scratch scratch = { .regex = NULL };
	uint32_t root;
	int rc;

	DF_TRY(sort_ids(a, err));
	trie_release(&a->raw);
	trie_release(&a->normalized);
	DF_TRY(new_node(&a->raw, 0, &root, err));
	DF_TRY(new_node(&a->normalized, 0, &root, err));
	/* Special tokens first: the order in which equal texts are resolved. */
	for (int special = 1; special >= 0; special--) {
		for (size_t i = 0; i < a->n_patterns; i++) {
			const struct tok_added_token *p = &a->pattern[i];
			const char *text = p->text;
			size_t n = p->n;
			bool first = true;

			if (p->flags.special != special)
				continue;
			if (p->flags.normalized)
				DF_TRY(df_tok_norm_run(norm, &scratch, &text, &n, &first, err));
			DF_TRY(trie_add(p->flags.normalized ? &a->normalized : &a->raw, text, n, p->id, err));
		}
	}
	trie_starts(&a->raw);
	trie_starts(&a->normalized);
out:
	df_tok_norm_scratch_release(&scratch);
	return rc;
}

void
df_tok_added_release(struct tok_added *a)
{
	for (size_t i = 0; i < a->n; i++)
		free(a->token[i].text);
	for (size_t i = 0; i < a->n_patterns; i++)
		free(a->pattern[i].text);
	free(a->token);
	free(a->pattern);
	free(a->by_id);
	trie_release(&a->names);
	trie_release(&a->raw);
	trie_release(&a->normalized);
	*a = (struct tok_added){ .n = 0 };
}

/* --- the search ----------------------------------------------------------------------------------------------- */

struct df_tok_added_walk
df_tok_added_walk(
    const struct tok_added *a, const struct tok_trie *trie, const char *text, size_t n, bool split_special)
{
	return (struct df_tok_added_walk){ .a = a, .trie = trie, .text = text, .n = n, .split_special = split_special };
}

/* The leftmost-longest match at or after w->pos; false when there is none. */
static bool
search(const struct df_tok_added_walk *w, size_t *start, size_t *end, uint32_t *id)
{
	const struct tok_trie *t = w->trie;

	for (size_t i = w->pos; i < w->n; i++) {
		uint32_t at = 0;

		if (t->only_start >= 0) {
			const char *p = memchr(w->text + i, t->only_start, w->n - i);

			if (p == NULL)
				return false;
			i = (size_t)(p - w->text);
		} else if (!t->starts[(unsigned char)w->text[i]]) {
			continue;
		}
		*id = DF_NO_TOKEN;
		for (size_t j = i; j < w->n; j++) {
			at = child_of(t, at, (unsigned char)w->text[j]);
			if (at == 0)
				break;
			if (t->node[at].id != DF_NO_TOKEN) {
				*id = t->node[at].id;
				*end = j + 1;
			}
		}
		if (*id != DF_NO_TOKEN) {
			*start = i;
			return true;
		}
	}
	return false;
}

static bool
is_uc(const char *s, enum df_uc bit)
{
	size_t len;

	return (df_uc_table[df_uc_get((const unsigned char *)s, &len)] & bit) != 0;
}

/* A word character touches the match on either side. */
static bool
inside_word(const struct df_tok_added_walk *w, size_t start, size_t end)
{
	size_t len;

	if (start > 0 && (df_uc_table[df_uc_before(w->text, start, &len)] & DF_UC_WORD))
		return true;
	return end < w->n && is_uc(w->text + end, DF_UC_WORD);
}

bool
df_tok_added_next(struct df_tok_added_walk *w, const char **piece, size_t *piece_n, uint32_t *id)
{
	size_t start = 0, end = 0, len;

	*piece = w->text + w->done;
	while (w->trie->node[0].child != 0 && search(w, &start, &end, id)) {
		const struct tok_added_token *t = df_tok_added_by_id(w->a, *id);

		w->pos = end;
		if (w->split_special && t->flags.special)
			continue;
		if (t->flags.single_word && inside_word(w, start, end))
			continue;
		while (t->flags.lstrip && start > w->done &&
		    (df_uc_table[df_uc_before(w->text, start, &len)] & DF_UC_SPACE))
			start -= len;
		while (t->flags.rstrip && end < w->n && is_uc(w->text + end, DF_UC_SPACE)) {
			df_uc_get((const unsigned char *)w->text + end, &len);
			end += len;
		}
		/*
		 * This token may include white space that the token before it has removed: then there is no piece
		 * between them.
		 */
		*piece_n = start > w->done ? start - w->done : 0;
		w->done = end;
		return true;
	}
	*piece_n = w->done < w->n ? w->n - w->done : 0;
	*id = DF_NO_TOKEN;
	w->pos = w->done = w->n;
	return false;
}
