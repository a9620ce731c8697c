/*
 * test_choice.c - multiple choice against transformers and LLaMA-Factory (tests/golden/mmlu), its CSV files,
 * and what answers are compared by.  Runs on the backend in DF_TEST_DEVICE.
 */
#include "model_help.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "eval/choice.h"
#include "eval/csv.h"
#include "eval/match.h"

/* ---- CSV --------------------------------------------------------------------- */

static int
csv_of(struct df_csv *c, const char *text, size_t n, struct df_err *err)
{
	char path[4096];
	int rc;

	snprintf(path, sizeof(path), "%s/x.csv", mh_scratch());
	DF_TRY(df_file_put(path, text, n, err));
	rc = df_csv_load(c, path, err);
out:
	return rc;
}

static void
test_csv(void **state)
{
	/* One row on a line: fields behind each other, '|' between them. */
	static const struct {
		const char *text, *rows[4];
	} cases[] = {
		{ "a,b\nc,d\n", { "a|b", "c|d" } },
		{ "a,b\r\nc,d", { "a|b", "c|d" } },
		{ "\xef\xbb\xbf"
		  "a,b",
		    { "a|b" } },
		{ "\"a,b\",\"c\nd\"\n\n\ne", { "a,b|c\nd", "e" } },
		{ "\"say \"\"x\"\"\",,\n\"\",\"\"\"\"", { "say \"x\"||", "|\"" } },
		{ "a b , c\"d\n", { "a b | c\"d" } },
		{ "a,", { "a|" } },
		{ "", { NULL } },
		{ "\n\r\n", { NULL } },
		{ "\"x\r\ny\",\xe6\x95\xb0", { "x\r\ny|\xe6\x95\xb0" } },
	};
	struct df_csv c = { 0 };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		size_t n = 0;

		mh_ok(csv_of(&c, cases[i].text, strlen(cases[i].text), err));
		while (cases[i].rows[n] != NULL)
			n++;
		assert_int_equal(c.n_rows, n);
		for (size_t r = 0; r < n; r++) {
			char got[256] = "";

			for (size_t k = 0; k < c.row[r].n; k++)
				snprintf(got + strlen(got), sizeof(got) - strlen(got), "%s%s", k ? "|" : "",
				    c.field[c.row[r].first + k]);
			assert_string_equal(got, cases[i].rows[r]);
		}
		df_csv_release(&c);
	}
	mh_refused(csv_of(&c, "a\nb,\"c\nd", 8, err), DF_EFORMAT, "line 2|quote does not close");
	mh_refused(csv_of(&c, "\"a\"b", 4, err), DF_EFORMAT, "line 1|text after a closing quote");
	mh_refused(csv_of(&c, "a\nb\xff", 4, err), DF_EFORMAT, "line 2|UTF-8");
	mh_refused(csv_of(&c, "a\0b", 3, err), DF_EFORMAT, "NUL");
	mh_refused(df_csv_load(&c, "/nonexistent", err), DF_ENOINPUT, "nonexistent");
}

/* ---- what answers are compared by ------------------------------------------------ */

static void
test_match(void **state)
{
	static const struct {
		enum df_match how;
		const char *text, *want;
	} cases[] = {
		{ DF_MATCH_EXACT, " A\n", " A\n" },
		{ DF_MATCH_STRIP, " \t A b\r\n", "A b" },
		{ DF_MATCH_STRIP, " \n", "" },
		{ DF_MATCH_TEXT, "The  Cat, (a) \"big\" one!", "cat big one" },
		{ DF_MATCH_TEXT, "an", "" },
		{ DF_MATCH_TEXT, "na\xc3\xafve THEORY\n", "na\xc3\xafve theory" },
		{ DF_MATCH_TEXT, "state-of-the-art", "stateoftheart" },
		{ DF_MATCH_NUMBER, "so 3 + 4 = 7.", "7" },
		{ DF_MATCH_NUMBER, "costs $1,234.50 in all", "1234.5" },
		{ DF_MATCH_NUMBER, "minus: -2", "-2" },
		{ DF_MATCH_NUMBER, "10-3", "3" },
		{ DF_MATCH_NUMBER, "version 1.2.3", "2.3" },
		{ DF_MATCH_NUMBER, "1, 2", "2" },
		{ DF_MATCH_NUMBER, "none", "" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct df_buf b = DF_BUF_INIT;

		mh_ok(df_match_normalise(cases[i].how, cases[i].text, strlen(cases[i].text), &b, err));
		if (b.len != strlen(cases[i].want) || memcmp(b.data ? b.data : "", cases[i].want, b.len) != 0)
			fail_msg("'%s' became '%.*s'", cases[i].text, (int)b.len, b.data);
		df_buf_release(&b);
	}
}

/* ---- multiple choice --------------------------------------------------------------- */

static char *
golden(const char *file)
{
	char *p = NULL, *path;

	mh_ok(df_asprintf(&p, err, "../mmlu%s%s", file ? "/" : "", file ? file : ""));
	path = mh_path(p, NULL);
	free(p);
	return path;
}

struct seen {
	const struct df_json_value *want;
	size_t n;
	double worst;
};

static void
compare(struct seen *s, const struct df_json_value *list, const double *got, size_t n)
{
	assert_int_equal(df_json_size(list), n);
	for (size_t k = 0; k < n; k++) {
		double x = 0;

		assert_true(df_json_number(df_json_at(list, k), &x));
		s->worst = fmax(s->worst, fabs(x - got[k]));
	}
}

static int
each(void *ctx, const struct df_choice_task *t, const struct df_choice_result *r, struct df_err *err)
{
	struct seen *s = ctx;
	const struct df_json_value *q = df_json_at(s->want, s->n++), *lengths = df_json_get(q, "characters");
	const struct df_question *asked = &t->subject[r->subject].asked[r->row];
	int64_t x = -1;

	(void)err;
	assert_string_equal(df_json_str(df_json_get(q, "subject"), NULL), t->subject[r->subject].name);
	assert_true(df_json_int(df_json_get(q, "row"), &x));
	assert_int_equal(x, r->row);
	assert_int_equal(df_json_str(df_json_get(q, "answer"), NULL)[0], 'A' + asked->answer);
	compare(s, df_json_get(q, "letters"), r->letter, asked->n_choices);
	compare(s, df_json_get(q, "texts"), r->text, asked->n_choices);
	for (size_t k = 0; k < asked->n_choices; k++) {
		assert_true(df_json_int(df_json_at(lengths, k), &x));
		assert_int_equal(x, r->characters[k]);
	}
	return DF_OK;
}

struct setup {
	struct df_model *m;
	struct df_tokenizer *tok;
	const struct df_template *template;
	struct df_encoder *enc;
	struct df_choice_task task;
	char *dir;
};

static void
open_setup(struct setup *s, const char *template, size_t shots)
{
	const struct df_encode_opts opts = { .stage = DF_STAGE_SFT, .cutoff_len = UINT32_MAX };
	char *model = golden("model");

	*s = (struct setup){ .dir = golden(NULL) };
	mh_ok(df_model_open(&s->m, model, NULL, mh_backend(), err));
	mh_ok(df_tokenizer_open(&s->tok, model, err));
	if (template != NULL) {
		mh_ok(df_template_open(&s->template, template, err));
		mh_ok(df_encoder_new(&s->enc, s->template, s->tok, &opts, err));
	}
	mh_ok(df_choice_load(&s->task, s->dir, "test", NULL, shots, err));
	free(model);
}

static void
close_setup(struct setup *s)
{
	df_choice_release(&s->task);
	df_encoder_free(s->enc);
	df_template_close(s->template);
	df_tokenizer_free(s->tok);
	df_model_free(s->m);
	free(s->dir);
}

/* Sums of up to some 20 float32 log-likelihoods of a few nats: 1e-4 is ten times what their roundings make. */
static void
test_likelihoods(void **state)
{
	char *path = golden("expected.json");
	const struct df_json_value *cases;
	struct df_json *doc = NULL;
	double worst = 0;

	(void)state;
	mh_ok(df_json_load(&doc, path, (size_t)1 << 24, err));
	cases = df_json_get(df_json_root(doc), "cases");
	assert_true(df_json_size(cases) >= 4);
	for (size_t i = 0; i < df_json_size(cases); i++) {
		const struct df_json_value *c = df_json_at(cases, i), *right = df_json_get(c, "right");
		struct seen seen = { .want = df_json_get(c, "questions") };
		struct df_choice_scores scores = { 0 };
		struct setup s;
		int64_t shots = 0;

		assert_true(df_json_int(df_json_get(c, "shots"), &shots));
		open_setup(&s, df_json_str(df_json_get(c, "template"), NULL), (size_t)shots);
		assert_int_equal(s.task.n, 3);
		mh_ok(df_choice_run(&scores, s.m, &s.task,
		    &(struct df_choice_opts){ .tok = s.tok, .enc = s.enc, .n_slots = 4 }, each, &seen, err));
		assert_int_equal(seen.n, df_json_size(seen.want));
		assert_int_equal(scores.all.n, seen.n);
		for (size_t k = 0; k < s.task.n; k++) {
			const struct df_json_value *want = df_json_get(right, s.task.subject[k].name);

			for (size_t w = 0; w < DF_CHOICE_WAYS; w++) {
				int64_t x = -1;

				assert_true(df_json_int(df_json_at(want, w), &x));
				assert_int_equal(scores.subject[k].right[w], x);
			}
		}
		worst = fmax(worst, seen.worst);
		df_choice_scores_release(&scores);
		close_setup(&s);
	}
	print_message("# max difference of a log-likelihood %.2g nats\n", worst);
	assert_true(worst < mh_bound(1e-4, 1));
	df_json_free(doc);
	free(path);
}

struct kept {
	struct df_choice_result v[64];
	size_t n;
};

static int
keep_result(void *ctx, const struct df_choice_task *t, const struct df_choice_result *r, struct df_err *err)
{
	struct kept *k = ctx;

	(void)t;
	(void)err;
	k->v[k->n++] = *r;
	return DF_OK;
}

/* The same results: to the bit on an exact backend, elsewhere log-likelihoods within 1e-4 nats. */
static void
assert_same(const struct df_choice_result *got, const struct df_choice_result *want, size_t n, size_t n_choices)
{
	if (df_backend_is_exact(mh_backend())) {
		assert_memory_equal(got, want, n * sizeof(*got));
		return;
	}
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(got[i].subject, want[i].subject);
		assert_int_equal(got[i].row, want[i].row);
		assert_memory_equal(got[i].picked, want[i].picked, sizeof(got[i].picked));
		for (size_t c = 0; c < n_choices; c++) {
			assert_true(fabs(got[i].letter[c] - want[i].letter[c]) < 1e-4);
			assert_true(fabs(got[i].text[c] - want[i].text[c]) < 1e-4);
		}
	}
}

/* How many questions are asked at once changes no bit. */
static void
test_slots(void **state)
{
	static const size_t slots[] = { 1, 3, 50, 0 };
	static struct kept want, got;
	struct df_choice_scores scores = { 0 };
	struct setup s;

	(void)state;
	open_setup(&s, NULL, 2);
	for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
		struct kept *k = i == 0 ? &want : &got;

		k->n = 0;
		mh_ok(df_choice_run(&scores, s.m, &s.task,
		    &(struct df_choice_opts){ .tok = s.tok, .n_slots = slots[i] }, keep_result, k, err));
		assert_int_equal(k->n, want.n);
		assert_same(k->v, want.v, k->n, 4);
		df_choice_scores_release(&scores);
	}
	got.n = 0;
	mh_ok(df_choice_run(&scores, s.m, &s.task, &(struct df_choice_opts){ .tok = s.tok, .letters_only = true },
	    keep_result, &got, err));
	for (size_t i = 0; i < want.n; i++)
		for (size_t c = 0; c < 4; c++)
			assert_true(fabs(got.v[i].letter[c] - want.v[i].letter[c]) <=
			    (df_backend_is_exact(mh_backend()) ? 0 : 1e-4));
	df_choice_scores_release(&scores);
	close_setup(&s);
}

static void
test_statistics(void **state)
{
	struct df_choice_score subject[] = { { 4, { 1, 0, 4 } }, { 16, { 8, 0, 4 } } };
	struct df_choice_scores s = { .subject = subject, .n = 2 };
	double error;

	(void)state;
	assert_true(fabs(df_choice_accuracy(&subject[0], DF_CHOICE_LETTER) - 0.25) < 1e-15);
	assert_true(fabs(df_choice_error(&subject[0], DF_CHOICE_LETTER) - sqrt(0.25 * 0.75 / 3)) < 1e-15);
	assert_true(fabs(df_choice_macro(&s, DF_CHOICE_LETTER, &error) - 0.375) < 1e-15);
	assert_true(fabs(error - sqrt(0.25 * 0.75 / 3 + 0.25 / 15) / 2) < 1e-15);
	assert_true(isnan(df_choice_error(&(struct df_choice_score){ 1, { 1 } }, DF_CHOICE_LETTER)));
	assert_true(isnan(df_choice_accuracy(&(struct df_choice_score){ 0 }, DF_CHOICE_LETTER)));
}

static void
write_csv(const char *split, const char *text)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/q/%s", mh_scratch(), split);
	mh_ok(df_mkdirs(path, err));
	snprintf(path, sizeof(path), "%s/q/%s/x_%s.csv", mh_scratch(), split, split);
	mh_ok(df_file_put(path, text, strlen(text), err));
}

static void
test_refused(void **state)
{
	struct df_choice_task t = { 0 };
	char dir[4096], *long_row;

	(void)state;
	snprintf(dir, sizeof(dir), "%s/q", mh_scratch());
	write_csv("test", "q,a,b,A\nq,a,b,B\n");
	mh_ok(df_choice_load(&t, dir, "test", "x", 0, err));
	assert_int_equal(t.subject[0].n_asked, 2);
	assert_int_equal(t.subject[0].asked[1].n_choices, 2);
	assert_int_equal(t.subject[0].asked[1].answer, 1);
	df_choice_release(&t);
	mh_refused(df_choice_load(&t, dir, "test", NULL, 1, err), DF_ENOINPUT, "x_dev.csv");
	write_csv("dev", "q,a,b,A\n");
	mh_refused(df_choice_load(&t, dir, "test", NULL, 2, err), DF_EFORMAT, "x_dev.csv|1 questions of the 2");
	write_csv("dev", "q,a,b,A\nq,a,b,c,A\n"); /* behind the solved one that is shown, and yet */
	mh_refused(df_choice_load(&t, dir, "test", NULL, 1, err), DF_EFORMAT, "x_dev.csv|line 2|5 fields|has 4");
	write_csv("dev", "q,a,b,c,A\n");
	mh_refused(df_choice_load(&t, dir, "test", NULL, 1, err), DF_EFORMAT, "x_dev.csv|line 1|5 fields|has 4");
	mh_refused(df_choice_load(&t, dir, "val", NULL, 0, err), DF_ENOINPUT, "val");
	mh_refused(df_choice_load(&t, dir, "test", "y", 0, err), DF_ENOINPUT, "y_test.csv");
	mh_refused(df_choice_load(&t, dir, "test", ",", 0, err), DF_EUSAGE, "no subject");
	write_csv("test", "q,a,b,A\nq,a,b,C\n");
	mh_refused(df_choice_load(&t, dir, "test", NULL, 0, err), DF_EFORMAT, "x_test.csv|line 2|'C'");
	write_csv("test", "q,a,A\n");
	mh_refused(df_choice_load(&t, dir, "test", NULL, 0, err), DF_EFORMAT, "line 1|3 fields");
	write_csv("test", "q,a,b,c,d,A\nq,a,b,B\n");
	mh_refused(df_choice_load(&t, dir, "test", NULL, 0, err), DF_EFORMAT, "x_test.csv|line 2|4 fields|has 6");
	long_row = malloc(((size_t)1 << 20) + 16);
	assert_non_null(long_row);
	memset(long_row, 'q', (size_t)1 << 20);
	strcpy(long_row + ((size_t)1 << 20), ",a,b,A\n");
	write_csv("test", long_row);
	free(long_row);
	mh_refused(df_choice_load(&t, dir, "test", NULL, 0, err), DF_EFORMAT, "line 1|1048579 bytes|1048576");
	write_csv("test", "");
	mh_refused(df_choice_load(&t, dir, "test", NULL, 0, err), DF_EFORMAT, "no question");
	assert_int_equal(t.n, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_csv),
		cmocka_unit_test(test_match),
		cmocka_unit_test(test_likelihoods),
		cmocka_unit_test(test_slots),
		cmocka_unit_test(test_statistics),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, mh_cleanup);
}
