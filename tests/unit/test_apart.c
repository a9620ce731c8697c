/*
 * test_apart.c - a choice from one process to another: all of it arrives; whatever the other process leaves behind is a
 * choice or an error.
 */
#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "select/apart.h"

enum { N = 5, HEAD = 4096 };

static void
make_choice(struct df_apart_choice *c)
{
	struct df_selection *s = &c->selection;

	*c = (struct df_apart_choice)DF_APART_CHOICE_INIT;
	assert_int_equal(df_strdup(&c->index, "i.h5", NULL), 0);
	c->quiet = true;
	c->verbose = 2;
	s->n_rows = N;
	s->n_index = 3;
	s->n_invalid = 1;
	assert_int_equal(df_alloc(&s->score, N, sizeof(*s->score), "t", NULL), 0);
	assert_int_equal(df_alloc(&s->cluster, N, sizeof(*s->cluster), "t", NULL), 0);
	assert_int_equal(df_alloc(&s->domain, N, sizeof(*s->domain), "t", NULL), 0);
	assert_int_equal(df_alloc(&s->probability, N, sizeof(*s->probability), "t", NULL), 0);
	assert_int_equal(df_alloc(&s->index, 3, sizeof(*s->index), "t", NULL), 0);
	for (int i = 0; i < N; i++) {
		s->score[i] = i == 2 ? NAN : (float)i / 3;
		s->cluster[i] = (uint32_t)(7 * i);
		s->domain[i] = (uint16_t)(i % 2);
		s->probability[i] = i / 10.0;
	}
	s->index[0] = 4;
	s->index[2] = 1;
	assert_int_equal(df_meta_set_tool(&s->meta, "test", NULL), 0);
	assert_int_equal(df_meta_set_str(&s->meta, "word", "a \"b\"", NULL), 0);
	assert_int_equal(df_meta_set_int(&s->meta, "number", -3, NULL), 0);
	assert_int_equal(df_meta_add_input(&s->meta, "tokens", "tokens", "0123456789abcdef0123456789abcdef", NULL), 0);
	assert_int_equal(df_meta_add_domain(&s->meta, "x", NULL, NULL), 0);
	assert_int_equal(df_meta_add_domain(&s->meta, "y", NULL, NULL), 0);
}

static void
check_choice(const struct df_apart_choice *c)
{
	const struct df_selection *s = &c->selection;
	struct df_apart_choice want;
	struct df_buf a = DF_BUF_INIT, b = DF_BUF_INIT;

	make_choice(&want);
	assert_string_equal(c->index, "i.h5");
	assert_null(c->scores);
	assert_true(c->quiet && c->verbose == 2);
	assert_true(s->n_rows == N && s->n_index == 3 && s->n_invalid == 1);
	assert_memory_equal(s->score, want.selection.score, N * sizeof(*s->score));
	assert_memory_equal(s->cluster, want.selection.cluster, N * sizeof(*s->cluster));
	assert_memory_equal(s->domain, want.selection.domain, N * sizeof(*s->domain));
	assert_memory_equal(s->probability, want.selection.probability, N * sizeof(*s->probability));
	assert_memory_equal(s->index, want.selection.index, 3 * sizeof(*s->index));
	assert_null(s->tie);
	assert_string_equal(s->meta.tool, "test");
	df_meta_params_json(&s->meta, &a);
	df_meta_params_json(&want.selection.meta, &b);
	assert_string_equal(a.data, b.data);
	df_buf_clear(&a);
	df_buf_clear(&b);
	df_meta_inputs_json(&s->meta, &a);
	df_meta_inputs_json(&want.selection.meta, &b);
	assert_string_equal(a.data, b.data);
	assert_int_equal(s->meta.n_domains, 2);
	assert_string_equal(s->meta.domains[1], "y");
	df_buf_release(&a);
	df_buf_release(&b);
	df_apart_choice_release(&want);
}

/* In another process; then with every byte changed, and cut at every length. */
static void
test_choice(void **state)
{
	struct df_apart_choice c;
	struct df_err err = DF_ERR_INIT;
	struct df_apart a;
	int status = 7, n_good = 0, n_bad = 0;
	struct stat st;
	pid_t child;

	(void)state;
	assert_int_equal(df_apart_open(&a, &err), 0);
	child = fork();
	if (child == 0) {
		make_choice(&c);
		_exit(df_apart_give(&a, &c, &err) == DF_OK ? 0 : 1);
	}
	assert_int_equal(df_apart_wait(&a, child, "x.so", &status, &err), 0);
	assert_int_equal(status, -1);
	assert_int_equal(df_apart_take(&a, &c, &err), 0);
	check_choice(&c);
	df_apart_choice_release(&c);

	assert_int_equal(fstat(a.fd, &st), 0);
	for (off_t at = HEAD; at < st.st_size; at++) {
		static const unsigned char change[] = { 0x01, 0x80, 0xff };
		unsigned char was, now;

		for (size_t k = 0; k < sizeof(change); k++) {
			int rc;

			assert_int_equal(pread(a.fd, &was, 1, at), 1);
			now = was ^ change[k];
			assert_int_equal(pwrite(a.fd, &now, 1, at), 1);
			rc = df_apart_take(&a, &c, &err);
			if (rc == DF_OK) { /* what is used as a place is in its place */
				for (uint64_t i = 0; i < c.selection.n_index; i++)
					assert_true(c.selection.index[i] < c.selection.n_rows);
				n_good++;
			} else {
				assert_true(err.msg[0] != '\0');
				n_bad++;
			}
			df_apart_choice_release(&c);
			assert_int_equal(pwrite(a.fd, &was, 1, at), 1);
		}
	}
	assert_true(n_good > 100 && n_bad > 100);
	assert_int_equal(df_apart_take(&a, &c, &err), 0);
	check_choice(&c);
	df_apart_choice_release(&c);
	for (off_t size = st.st_size - 1; size >= 0; size--) {
		assert_int_equal(ftruncate(a.fd, size < HEAD ? HEAD : size), 0);
		assert_int_not_equal(df_apart_take(&a, &c, &err), DF_OK);
		df_apart_choice_release(&c);
	}
	df_apart_close(&a);
}

static void
ends(enum df_apart_stage stage, int how, int code, int status, const char *says)
{
	struct df_err err = DF_ERR_INIT;
	struct df_apart a;
	int got = 7;
	pid_t child;

	assert_int_equal(df_apart_open(&a, &err), 0);
	child = fork();
	if (child == 0) {
		df_apart_reach(&a, stage);
		if (how < 0)
			kill(getpid(), -how);
		_exit(how);
	}
	assert_int_equal(df_apart_wait(&a, child, "x.so", &got, &err), code);
	assert_int_equal(got, status);
	if (says && !strstr(err.msg, says))
		fail_msg("'%s' does not say '%s'", err.msg, says);
	df_apart_close(&a);
}

static void
test_ends(void **state)
{
	(void)state;
	ends(DF_APART_PARSING, 0, DF_OK, 0, NULL);   /* -h */
	ends(DF_APART_PARSING, 64, DF_OK, 64, NULL); /* a wrong option */
	ends(DF_APART_TOLD, 65, DF_OK, 65, NULL);
	ends(DF_APART_DONE, 0, DF_OK, -1, NULL);
	ends(DF_APART_DONE, 1, DF_EFORMAT, -1, "ended the process");
	ends(DF_APART_LOADING, 0, DF_EFORMAT, -1,
	    "the plug-in x.so ended the process when it was loaded, with status 0");
	ends(DF_APART_RUNNING, 0, DF_EFORMAT, -1, "ended the process when it ran, with status 0");
	ends(DF_APART_LOADING, -SIGKILL, DF_EFORMAT, -1, "crashed when it was loaded: signal 9");
	ends(DF_APART_PARSING, -SIGKILL, DF_EFORMAT, -1, "crashed when its options were read: signal 9");
	ends(DF_APART_RUNNING, -SIGKILL, DF_EFORMAT, -1, "crashed when it ran: signal 9");
	ends((enum df_apart_stage)99, -SIGKILL, DF_EFORMAT, -1, "crashed when it ran: signal 9");
	ends((enum df_apart_stage) - 5, 3, DF_EFORMAT, -1, "ended the process when it ran, with status 3");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_choice),
		cmocka_unit_test(test_ends),
	};

	return cmocka_run_group_tests_name("apart", tests, NULL, NULL);
}
