/*
 * test_plan_print.c - plans on paper: which node waits for which, and what printers write of a small plan.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "plan/edges.h"
#include "plan/plan.h"
#include "plan/print.h"

static void
ok(int rc, const struct df_err *err)
{
	if (rc != DF_OK)
		fail_msg("%s", err->msg);
}

static void
add(struct df_plan *p, struct df_plan_node *n)
{
	struct df_err err = DF_ERR_INIT;

	ok(df_plan_add(p, n, NULL, &err), &err);
	p->node[p->n - 1].key = p->n; /* not the digest of this version's words */
}

/* Tokens; a warm-up; gradients of the pool in parts; a choice; more training; its evaluation, whose output is kept. */
static void
small_plan(struct df_plan *p)
{
	struct df_plan_node n = { .name = "pack", .about = "tokens" };

	p->source = "less.yaml";
	p->out = "my run";
	df_plan_note(p, "no effect here: %s", "deepspeed");
	df_plan_words(p, &n, "df-pack", "--dataset", "it's", "-o", "my run/pool.h5", NULL);
	df_plan_out(p, &n, "my run/pool.h5");
	add(p, &n);
	n = (struct df_plan_node){ .name = "train-10", .about = "10 steps", .whole = true };
	df_plan_words(p, &n, "df-train", "less.yaml", "tokenized_path=my run/pool.h5", "--until", "10", NULL);
	df_plan_after(p, &n, "pack");
	df_plan_out(p, &n, "my run/checkpoint-10/df_state.json");
	add(p, &n);
	n = (struct df_plan_node){ .name = "grad-10", .about = "gradients", .shards = 3 };
	df_plan_words(p, &n, "df-grad", "-m", "my run/checkpoint-10", "--shard", DF_PLAN_SHARD, "my run/pool.h5", "-o",
	    "my run/grad.h5", NULL);
	df_plan_after(p, &n, "pack");
	df_plan_after(p, &n, "train-10");
	df_plan_out_shards(p, &n, "my run/grad.h5");
	add(p, &n);
	n = (struct df_plan_node){ .name = "score-10", .about = "a choice" };
	df_plan_words(
	    p, &n, "df-score", "less", "--train", "my run/grad.*-of-00003.h5", "-o", "my run/step 10/index.h5", NULL);
	df_plan_after(p, &n, "grad-10");
	df_plan_out(p, &n, "my run/step 10/index.h5");
	add(p, &n);
	n = (struct df_plan_node){ .name = "train-20", .about = "10 steps more", .whole = true };
	df_plan_words(p, &n, "df-train", "less.yaml", "--index", "my run/step 10/index.h5", "--until", "20", NULL);
	df_plan_after(p, &n, "pack");
	df_plan_after(p, &n, "train-10");
	df_plan_after(p, &n, "score-10");
	df_plan_out(p, &n, "my run/checkpoint-20/df_state.json");
	add(p, &n);
	n = (struct df_plan_node){ .name = "eval", .about = "its losses", .capture = true };
	df_plan_words(p, &n, "df-eval", "-m", "my run/checkpoint-20", "-q", "val.h5", NULL);
	df_plan_in(p, &n, "val.h5"); /* nobody makes it */
	df_plan_after(p, &n, "train-20");
	df_plan_out(p, &n, "my run/eval.txt");
	add(p, &n);
}

/* "a<b" for each node b that waits for a. */
static void
check_edges(const struct df_plan *p, const struct df_plan_edges *e, const char *want)
{
	struct df_buf got = DF_BUF_INIT;

	for (size_t i = 0; i < p->n; i++)
		for (size_t k = e->first[i]; k < e->first[i + 1]; k++)
			df_buf_printf(&got, "%s<%s ", p->node[e->from[k]].name, p->node[i].name);
	assert_string_equal(got.data, want);
	df_buf_release(&got);
}

static void
test_edges(void **state)
{
	struct df_plan p = DF_PLAN_INIT;
	struct df_plan_edges e;
	struct df_err err = DF_ERR_INIT;

	(void)state;
	small_plan(&p);
	ok(df_plan_edges_find(&e, &p, &err), &err);
	check_edges(&p, &e,
	    "pack<train-10 pack<grad-10 train-10<grad-10 grad-10<score-10 pack<train-20 train-10<train-20 "
	    "score-10<train-20 train-20<eval ");
	ok(df_plan_edges_reduce(&e, &p, &err), &err);
	check_edges(&p, &e, "pack<train-10 train-10<grad-10 grad-10<score-10 score-10<train-20 train-20<eval ");
	df_plan_edges_release(&e);

	/* A node that reads what a later one makes is no plan. */
	df_plan_in(&p, &p.node[0], "my run/eval.txt");
	assert_int_equal(df_plan_edges_find(&e, &p, &err), DF_EINTERNAL);
	assert_string_equal(err.msg, "pack reads my run/eval.txt, which eval makes later");
	df_plan_release(&p);
}

/* More nodes than bits in a word: each waits for all before it, and one is enough to say so. */
static void
test_long(void **state)
{
	struct df_plan p = DF_PLAN_INIT;
	struct df_plan_edges e;
	struct df_err err = DF_ERR_INIT;

	(void)state;
	for (size_t i = 0; i < 200; i++) {
		struct df_plan_node n = { .name = df_plan_text(&p, "n%zu", i), .about = "" };

		df_plan_words(&p, &n, "df-show", NULL);
		for (size_t k = 0; k < i; k++)
			df_plan_after(&p, &n, p.node[k].name);
		df_plan_out(&p, &n, df_plan_text(&p, "f%zu", i));
		add(&p, &n);
	}
	ok(df_plan_edges_find(&e, &p, &err), &err);
	assert_int_equal(e.first[200], 200 * 199 / 2);
	ok(df_plan_edges_reduce(&e, &p, &err), &err);
	assert_int_equal(e.first[200], 199);
	for (size_t i = 1; i < 200; i++)
		assert_int_equal(e.from[e.first[i]], i - 1);
	df_plan_edges_release(&e);
	df_plan_release(&p);
}

static void
print(const char *printer, const struct df_plan *p, struct df_buf *out)
{
	struct df_err err = DF_ERR_INIT;

	for (size_t i = 0; df_printers[i] != NULL; i++)
		if (strcmp(df_printers[i]->name, printer) == 0) {
			ok(df_printers[i]->print(p, out, &err), &err);
			return;
		}
	fail_msg("no printer %s", printer);
}

static void
test_slurm(void **state)
{
	static const char want[] =
	    "\n"
	    "# tokens\n"
	    "stage pack.0000000000000001 makes 'my run/pool.h5' <<'END'\n"
	    "srun df-pack --dataset 'it'\\''s' -o 'my run/pool.h5'\n"
	    "touch 'my run/pool.h5'\n"
	    "END\n"
	    "\n"
	    "# 10 steps\n"
	    "stage train-10.0000000000000002 goes-on with $MODEL_JOB after pack makes 'my run/checkpoint-10/df_state.json' <<'END'\n"
	    "srun df-train less.yaml 'tokenized_path=my run/pool.h5' --until 10\n"
	    "touch 'my run/checkpoint-10/df_state.json'\n"
	    "END\n"
	    "\n"
	    "# gradients\n"
	    "stage grad-10.0000000000000003 with $MODEL_JOB after pack train-10 array 3 makes 'my run/grad.h5' <<'END'\n"
	    "srun df-grad -m 'my run/checkpoint-10' --shard auto/3 'my run/pool.h5' -o 'my run/grad.h5'\n"
	    "END\n"
	    "\n"
	    "# a choice\n"
	    "stage score-10.0000000000000004 after grad-10 makes 'my run/step 10/index.h5' <<'END'\n"
	    "mkdir -p 'my run/step 10'\n"
	    "srun df-score less --train 'my run/grad.*-of-00003.h5' -o 'my run/step 10/index.h5'\n"
	    "touch 'my run/step 10/index.h5'\n"
	    "END\n"
	    "\n"
	    "# 10 steps more\n"
	    "stage train-20.0000000000000005 goes-on with $MODEL_JOB after pack train-10 score-10 makes "
	    "'my run/checkpoint-20/df_state.json' <<'END'\n"
	    "srun df-train less.yaml --index 'my run/step 10/index.h5' --until 20\n"
	    "touch 'my run/checkpoint-20/df_state.json'\n"
	    "END\n"
	    "\n"
	    "# its losses\n"
	    "stage eval.0000000000000006 with $MODEL_JOB after train-20 makes 'my run/eval.txt' <<'END'\n"
	    "srun df-eval -m 'my run/checkpoint-20' -q val.h5 >'my run/eval.txt'.tmp\n"
	    "mv 'my run/eval.txt'.tmp 'my run/eval.txt'\n"
	    "END\n";
	struct df_plan p = DF_PLAN_INIT;
	struct df_buf text = DF_BUF_INIT;

	(void)state;
	small_plan(&p);
	print("slurm", &p, &text);
	assert_non_null(strstr(text.data, "\n#\n# no effect here: deepspeed\n"));
	assert_non_null(strstr(text.data, "\nOUT='my run'\n"));
	assert_non_null(strstr(text.data, "\n}\n\n# tokens"));
	assert_string_equal(strstr(text.data, "\n# tokens"), want);
	df_buf_release(&text);
	df_plan_release(&p);
}

/* Commands may contain what usually ends them; lines are broken between options. */
static void
test_slurm_lines(void **state)
{
	struct df_plan p = { .source = "x", .out = "o" };
	struct df_plan_node n = { .name = "a", .about = "two\nlines" };
	struct df_buf text = DF_BUF_INIT;

	(void)state;
	df_plan_words(&p, &n, "df-pack", "--default-system", "x\nEND\nEND2\n", NULL);
	for (int i = 0; i < 4; i++)
		df_plan_words(&p, &n, "--holdout", "a-name-of-a-data-set-that-is-quite-long=100", NULL);
	df_plan_out(&p, &n, "o/f");
	add(&p, &n);
	print("slurm", &p, &text);
	assert_string_equal(strstr(text.data, "\n# two"),
	    "\n# two\n# lines\nstage a.0000000000000001 makes o/f <<'END3'\n"
	    "srun df-pack --default-system 'x\nEND\nEND2\n' --holdout a-name-of-a-data-set-that-is-quite-long=100 "
	    "--holdout a-name-of-a-data-set-that-is-quite-long=100 \\\n"
	    "    --holdout a-name-of-a-data-set-that-is-quite-long=100 \\\n"
	    "    --holdout a-name-of-a-data-set-that-is-quite-long=100\n"
	    "touch o/f\nEND3\n");
	df_buf_release(&text);
	df_plan_release(&p);
}

static void
test_dot(void **state)
{
	static const char want[] = "\t\"pack\" -> \"train-10\" [label=\"pool.h5\"]\n"
				   "\t\"train-10\" -> \"grad-10\" [label=\"checkpoint-10/df_state.json\"]\n"
				   "\t\"grad-10\" -> \"score-10\" [label=\"grad.00001-of-00003.h5\\nand 2 more\"]\n"
				   "\t\"score-10\" -> \"train-20\" [label=\"step 10/index.h5\"]\n"
				   "\t\"train-20\" -> \"eval\" [label=\"checkpoint-20/df_state.json\"]\n"
				   "}\n";
	struct df_plan p = DF_PLAN_INIT;
	struct df_buf text = DF_BUF_INIT;

	(void)state;
	small_plan(&p);
	print("dot", &p, &text);
	assert_int_equal(strncmp(text.data, "digraph plan {\n\tlabel=\"less.yaml\"\n", 34), 0);
	assert_non_null(strstr(text.data,
	    "\t\"grad-10\" [label=\"grad-10 (3 parts)\\ngradients\", fillcolor=\"#fce5cd\", "
	    "peripheries=2, tooltip=\"df-grad -m 'my run/checkpoint-10' --shard I/N "));
	assert_string_equal(strstr(text.data, "\t\"pack\" -> "), want);
	df_buf_release(&text);
	df_plan_release(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_edges),
		cmocka_unit_test(test_long),
		cmocka_unit_test(test_slurm),
		cmocka_unit_test(test_slurm_lines),
		cmocka_unit_test(test_dot),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
