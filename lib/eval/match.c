/*
 * match.c - reduce two texts to what is compared, and count the matches.
 */
#include "eval/match.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"

static bool
is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_punctuation(char c)
{
	return (unsigned char)c < 0x80 && ispunct((unsigned char)c);
}

static void
put_stripped(struct df_buf *out, const char *s, size_t n)
{
	while (n > 0 && is_space(s[n - 1]))
		n--;
	while (n > 0 && is_space(*s)) {
		s++;
		n--;
	}
	df_buf_add(out, s, n);
}

static bool
is_article(const char *word, size_t n)
{
	return (n == 1 && word[0] == 'a') || (n == 2 && memcmp(word, "an", 2) == 0) ||
	    (n == 3 && memcmp(word, "the", 3) == 0);
}

/* Lower case without punctuation; then the words without articles, with one space between them. */
static void
put_words(struct df_buf *out, const char *s, size_t n)
{
	const size_t begin = out->len;
	size_t word = begin;

	for (size_t i = 0; i <= n; i++) {
		if (i < n && !is_space(s[i])) {
			if (!is_punctuation(s[i]))
				df_buf_putc(out, s[i] >= 'A' && s[i] <= 'Z' ? (char)(s[i] + ('a' - 'A')) : s[i]);
			continue;
		}
		if (out->failed)
			return;
		if (out->len > word && is_article(out->data + word, out->len - word))
			out->len = word;
		else if (out->len > word)
			df_buf_putc(out, ' ');
		word = out->len;
	}
	if (out->len > begin)
		out->len--;
}

/* The number that begins at s[i], its end at *end; commas between digits are skipped. */
static void
put_number(struct df_buf *out, const char *s, size_t from, size_t to)
{
	char digits[64];
	size_t n = 0;

	for (size_t i = from; i < to && n + 1 < sizeof(digits); i++)
		if (s[i] != ',')
			digits[n++] = s[i];
	digits[n] = '\0';
	df_buf_json_double(out, strtod(digits, NULL) + 0.0);
}

static void
put_last_number(struct df_buf *out, const char *s, size_t n)
{
	size_t to = n, from;

	while (to > 0 && !is_digit(s[to - 1]))
		to--;
	if (to == 0)
		return;
	for (from = to; from > 0; from--) {
		const char c = s[from - 1];

		if (!is_digit(c) && !((c == '.' || c == ',') && from > 1 && is_digit(s[from - 2])))
			break;
	}
	/* A number has at most one point: of 1.2.3 it is the last part, as if it were read from the end. */
	for (size_t i = to, points = 0; i > from; i--) {
		points += s[i - 1] == '.';
		if (points == 2) {
			from = i;
			break;
		}
	}
	if (from > 0 && s[from - 1] == '-' && (from == 1 || !is_digit(s[from - 2])))
		from--;
	put_number(out, s, from, to);
}

int
df_match_normalise(enum df_match how, const char *text, size_t n, struct df_buf *out, struct df_err *err)
{
	switch (how) {
	case DF_MATCH_STRIP: put_stripped(out, text, n); break;
	case DF_MATCH_TEXT: put_words(out, text, n); break;
	case DF_MATCH_NUMBER: put_last_number(out, text, n); break;
	default: df_buf_add(out, text, n); break;
	}
	return df_buf_check(out, err);
}

struct texts {
	enum df_match how;
	struct df_buf got, want; /* scratch */
};

static void
texts_release(struct texts *t)
{
	df_buf_release(&t->got);
	df_buf_release(&t->want);
}

static int
is_match(
    struct texts *t, const char *got, size_t n_got, const char *want, size_t n_want, bool *right, struct df_err *err)
{
	int rc;

	df_buf_clear(&t->got);
	df_buf_clear(&t->want);
	DF_TRY(df_match_normalise(t->how, got, n_got, &t->got, err));
	DF_TRY(df_match_normalise(t->how, want, n_want, &t->want, err));
	*right = t->got.len == t->want.len && (t->got.len == 0 || memcmp(t->got.data, t->want.data, t->got.len) == 0) &&
	    !(t->how == DF_MATCH_NUMBER && t->want.len == 0);
out:
	return rc;
}

static void
count(struct df_match_scores *out, size_t domain, bool right, bool cut)
{
	struct df_match_score *of[] = { &out->all, &out->domain[domain] };

	for (size_t i = 0; i < 2; i++) {
		of[i]->n++;
		of[i]->right += right;
		of[i]->cut += cut;
	}
}

/* ---- while they are generated ------------------------------------------------------- */

struct run {
	struct df_match_scores *out;
	const struct df_prompts *p;
	df_match_fn *each;
	void *ctx;
	struct texts texts;
};

static int
compare(void *ctx, const struct df_completion *c, struct df_err *err)
{
	struct run *r = ctx;
	const char *answer = r->p->answer[c->prompt];
	bool right;
	int rc;

	DF_TRY(is_match(&r->texts, c->text, c->n_text, answer, strlen(answer), &right, err));
	count(r->out, r->p->domain[c->prompt], right, c->finish == DF_FINISH_LENGTH);
	if (r->each != NULL)
		DF_TRY(r->each(r->ctx, c, right, err));
out:
	return rc;
}

int
df_match_run(struct df_match_scores *out, struct df_model *m, struct df_pool *pool, const struct df_prompts *p,
    const struct df_generate_opts *o, enum df_match how, df_match_fn *each, void *ctx, struct df_err *err)
{
	struct run r = { .out = out, .p = p, .each = each, .ctx = ctx, .texts = { .how = how } };
	int rc;

	*out = (struct df_match_scores){ .n_domains = p->n_domains > 0 ? p->n_domains : 1 };
	for (size_t i = 0; i < p->n; i++)
		if (p->answer[i] == NULL)
			return df_fail(
			    err, DF_EFORMAT, "prompt %llu has no answer to compare with", (unsigned long long)p->id[i]);
	DF_TRY(df_alloc(&out->domain, out->n_domains, sizeof(*out->domain), "domains", err));
	rc = df_generate(m, pool, p, o, compare, &r, err);
out:
	texts_release(&r.texts);
	if (rc != DF_OK)
		df_match_scores_release(out);
	return rc;
}

/* ---- in lines ------------------------------------------------------------------------- */

#define FILE_MAX ((size_t)1 << 32) /* bytes */

struct lines {
	struct df_match_scores *out;
	struct df_prompts *p;
	size_t cap_domain;
	df_match_line_fn *each;
	void *ctx;
	struct texts texts;
};

static int
domain_of(struct lines *l, const char *name, size_t *domain, struct df_err *err)
{
	const struct df_prompts *p = l->p;
	int rc;

	for (*domain = 0; *domain < p->n_domains; ++*domain)
		if (strcmp(p->domains[*domain], name) == 0)
			return DF_OK;
	DF_TRY(df_prompts_add_domain(l->p, name, err));
	DF_TRY(df_grow(&l->out->domain, &l->cap_domain, p->n_domains, sizeof(*l->out->domain), "domains", err));
	l->out->domain[*domain] = (struct df_match_score){ 0 };
	l->out->n_domains = p->n_domains;
out:
	return rc;
}

/* A member that is a text, and must be there. */
static int
text_of(const struct df_json_value *root, const char *key, const char **text, size_t *n, struct df_err *err)
{
	const struct df_json_value *v = df_json_get(root, key);

	*text = df_json_str(v, n);
	if (*text)
		return DF_OK;
	return df_fail(
	    err, DF_EFORMAT, "'%s': expected a string, found %s", key, v ? df_json_type_name(v) : "no such member");
}

static int
compare_line(struct lines *l, const char *line, size_t n, struct df_err *err)
{
	const char *got, *want, *finish;
	const struct df_json_value *root;
	struct df_match_line of = { 0 };
	struct df_json *doc = NULL;
	size_t n_got, n_want, domain;
	int64_t id;
	int rc;

	DF_TRY(df_json_parse_line(&doc, line, n, err));
	root = df_json_root(doc);
	DF_TRY(text_of(root, "completion", &got, &n_got, err));
	DF_TRY(text_of(root, "answer", &want, &n_want, err));
	DF_TRY(df_json_member_int(root, "id", -1, 0, INT64_MAX, &id, err));
	DF_TRY(df_json_member_int(root, "sample", -1, 0, UINT32_MAX, &of.draw, err));
	DF_TRY(df_json_member_str(root, "domain", "all", &of.domain, err));
	DF_TRY(df_json_member_str(root, "finish", "", &finish, err));
	if (id < 0) {
		rc = df_fail(err, DF_EFORMAT, "'id' is missing: the prompt's");
		goto out;
	}
	of.id = (uint64_t)id;
	DF_TRY(domain_of(l, of.domain, &domain, err));
	DF_TRY(is_match(&l->texts, got, n_got, want, n_want, &of.right, err));
	count(l->out, domain, of.right, strcmp(finish, df_finish_name(DF_FINISH_LENGTH)) == 0);
	if (l->each)
		rc = l->each(l->ctx, &of, err);
out:
	df_json_free(doc);
	return rc;
}

int
df_match_lines(struct df_match_scores *out, struct df_prompts *p, const char *path, enum df_match how,
    df_match_line_fn *each, void *ctx, struct df_err *err)
{
	struct lines l = { .out = out, .p = p, .each = each, .ctx = ctx, .texts = { .how = how } };
	uint64_t number = 0;
	char *text = NULL;
	size_t size;
	int rc;

	*out = (struct df_match_scores){ 0 };
	DF_TRY(df_file_get(path, FILE_MAX, &text, &size, err));
	for (size_t at = 0, n; at < size; at += n + 1) {
		const char *end = memchr(text + at, '\n', size - at);

		n = end ? (size_t)(end - text) - at : size - at;
		number++;
		if (n == 0 || (n == 1 && text[at] == '\r'))
			continue;
		if ((rc = compare_line(&l, text + at, n, err)) != DF_OK) {
			df_err_prefix(err, "%s: line %llu: ", path, (unsigned long long)number);
			goto out;
		}
	}
	if (out->all.n == 0)
		rc = df_fail(err, DF_EFORMAT, "%s: no completion", path);
out:
	free(text);
	texts_release(&l.texts);
	if (rc != DF_OK)
		df_match_scores_release(out);
	return rc;
}

void
df_match_scores_release(struct df_match_scores *s)
{
	free(s->domain);
	*s = (struct df_match_scores){ 0 };
}
