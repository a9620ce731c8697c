/*
 * test_base_opt.c - the option table: what parses, what is refused and how, and -h.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "base/opt.h"
#include "base/rng.h"

struct values {
	bool quiet, packing;
	const char *output;
	int64_t n, verbose;
	double rate;
	int form;
	struct df_strlist names;
	struct df_shard_arg shard;
	bool n_given;
};

static const char *const forms[] = { "sgd", "adam", "sign", NULL };

/* Parse up to eight words into v (which is set to its defaults first). */
static int
parse(struct values *v, struct df_opt_result *r, struct df_err *err, const char *const *words)
{
	const struct df_opt opts[] = {
		{ .type = DF_OPT_GROUP, .help = "Things" },
		{ .name = "output",
		    .short_name = 'o',
		    .type = DF_OPT_STR,
		    .value = &v->output,
		    .arg = "FILE",
		    .help = "x" },
		{ .name = "number",
		    .short_name = 'n',
		    .type = DF_OPT_INT,
		    .value = &v->n,
		    .arg = "N",
		    .help = "x",
		    .min = -5,
		    .max = 100,
		    .given = &v->n_given },
		{ .name = "rate", .type = DF_OPT_DOUBLE, .value = &v->rate, .arg = "X", .help = "x", .max = 1 },
		{ .name = "form", .type = DF_OPT_CHOICE, .value = &v->form, .choices = forms, .help = "x" },
		{ .name = "name", .type = DF_OPT_LIST, .value = &v->names, .arg = "NAME", .help = "x" },
		{ .name = "shard", .type = DF_OPT_SHARD, .value = &v->shard, .arg = "I/N", .help = "x" },
		{ .name = "packing", .type = DF_OPT_FLAG, .value = &v->packing, .help = "x" },
		{ .name = "quiet", .short_name = 'q', .type = DF_OPT_FLAG, .value = &v->quiet, .help = "x" },
		{ .name = "verbose",
		    .short_name = 'v',
		    .type = DF_OPT_COUNT,
		    .value = &v->verbose,
		    .help = "x",
		    .max = 2 },
		DF_OPT_END,
	};
	char *argv[16] = { (char *)"prog" };
	int argc = 1;

	*v = (struct values){ .packing = true, .n = 7, .rate = 0.5, .shard = { 0, 1 } };
	for (; words[argc - 1]; argc++)
		argv[argc] = (char *)(uintptr_t)words[argc - 1];
	return df_opt_parse(opts, argc, argv, r, err);
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void
accepts_gnu_manners(void **state)
{
	struct df_opt_result r;
	struct df_err err = DF_ERR_INIT;
	struct values v;

	(void)state;
	assert_int_equal(parse(&v, &r, &err, WORDS("a", "-n5", "--output", "x", "b", "--rate=.25", "-qv", "-")), DF_OK);
	assert_true(v.n == 5 && v.n_given && v.rate == 0.25 && v.quiet && v.verbose == 1);
	assert_string_equal(v.output, "x");
	assert_int_equal(r.operands.n, 3);
	assert_string_equal(r.operands.v[0], "a");
	assert_string_equal(r.operands.v[2], "-");
	df_opt_result_release(&r);

	assert_int_equal(parse(&v, &r, &err, WORDS("--no-packing", "-n", "-5", "--", "-n", "--bogus")), DF_OK);
	assert_true(!v.packing && v.n == -5);
	assert_int_equal(r.operands.n, 2);
	assert_string_equal(r.operands.v[1], "--bogus");
	df_opt_result_release(&r);

	assert_int_equal(
	    parse(&v, &r, &err, WORDS("--form", "sign", "--name=a,b", "--name", "c", "-vvv", "-oq")), DF_OK);
	assert_true(v.form == 2 && v.names.n == 2 && v.verbose == 2);
	assert_string_equal(v.names.v[0], "a,b");
	assert_string_equal(v.output, "q");
	free(v.names.v);
	df_opt_result_release(&r);

	assert_int_equal(parse(&v, &r, &err, WORDS("--verb=2", "--no-q", "--out=")), DF_OK);
	assert_true(v.verbose == 2 && !v.quiet);
	assert_string_equal(v.output, "");
	df_opt_result_release(&r);
}

/* A table whose other options belong to the words "less", "static" and "custom". */
static void
options_of_other_commands_are_named(void **state)
{
	static const struct {
		const char *words[4], *says; /* NULL: taken */
	} t[] = {
		{ { "--agg=max" }, "--agg belongs to less, and is known only after that word" },
		{ { "--no-agg" }, "--agg belongs to less" },
		{ { "--ag", "max" }, "--agg belongs to less" },
		{ { "--index", "x" }, "--index belongs to static and custom" },
		{ { "--scores", "x" }, "--scores belongs to custom" },
		{ { "--scor", "x" }, "--scores belongs to custom" },
		{ { "--agh" }, "unknown option --agh" },
		{ { "--scores-output", "x" }, NULL },
		{ { "--scores-o", "x" }, NULL },
	};
	const char *scores_output = NULL;
	const struct df_opt opts[] = {
		{ .name = "scores-output", .type = DF_OPT_STR, .value = &scores_output, .arg = "FILE", .help = "x" },
		{ .name = "agg", .type = DF_OPT_ELSEWHERE, .help = "less" },
		{ .name = "index", .type = DF_OPT_ELSEWHERE, .help = "static" },
		{ .name = "scores", .type = DF_OPT_ELSEWHERE, .help = "custom" },
		{ .name = "index", .type = DF_OPT_ELSEWHERE, .help = "custom" },
		DF_OPT_END,
	};
	struct df_buf b = DF_BUF_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		char *argv[4] = { (char *)"prog", (char *)(uintptr_t)t[i].words[0], (char *)(uintptr_t)t[i].words[1],
			NULL };
		const int argc = t[i].words[1] ? 3 : 2;
		struct df_err err = DF_ERR_INIT;
		struct df_opt_result r;
		const int rc = df_opt_parse(opts, argc, argv, &r, &err);

		assert_int_equal(rc, t[i].says ? DF_EUSAGE : DF_OK);
		if (t[i].says && !strstr(err.msg, t[i].says))
			fail_msg("%s: '%s' does not say '%s'", t[i].words[0], err.msg, t[i].says);
		if (rc == DF_OK)
			df_opt_result_release(&r);
	}
	df_opt_help(opts, &b);
	df_opt_list(opts, &b);
	assert_null(strstr(b.data, "agg"));
	df_buf_release(&b);
}

static void
the_first_operand_is_found(void **state)
{
	static const struct {
		const char *words[6];
		int at; /* 0: none */
	} t[] = {
		{ { "less", "-n", "5" }, 1 },
		{ { "-q", "less" }, 2 },
		{ { "-n", "5", "less", "more" }, 3 },
		{ { "-n5", "less" }, 2 },
		{ { "-qn", "5", "less" }, 3 },
		{ { "-vq", "less" }, 2 },
		{ { "--number=5", "less" }, 2 },
		{ { "--numb", "5", "less" }, 3 },
		{ { "--no-packing", "less" }, 2 },
		{ { "--list-options", "less" }, 2 },
		{ { "-h", "less" }, 2 },
		{ { "--help", "less" }, 2 },
		{ { "--verbose", "less" }, 2 },
		{ { "--", "-n" }, 2 },
		{ { "-", "less" }, 1 },
		{ { "-n", "5" }, 0 },
		{ { "-n" }, 0 },
		{ { "--bogus", "5", "less" }, 0 },
		{ { "-x", "less" }, 0 },
		{ { "--" }, 0 },
		{ { NULL }, 0 },
	};
	const struct df_opt opts[] = {
		{ .name = "number", .short_name = 'n', .type = DF_OPT_INT, .arg = "N", .help = "x" },
		{ .name = "packing", .type = DF_OPT_FLAG, .value = &(bool){ false }, .help = "x" },
		{ .name = "quiet", .short_name = 'q', .type = DF_OPT_FLAG, .value = &(bool){ false }, .help = "x" },
		{ .name = "verbose", .short_name = 'v', .type = DF_OPT_COUNT, .help = "x" },
		DF_OPT_END,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		char *argv[8] = { (char *)"prog" };
		int argc = 1, at;

		for (; t[i].words[argc - 1]; argc++)
			argv[argc] = (char *)(uintptr_t)t[i].words[argc - 1];
		at = df_opt_first_operand(opts, argc, argv);
		if (at != (t[i].at ? t[i].at : argc))
			fail_msg("case %zu: word %d of %d", i, at, argc);
	}
}

static void
help_and_version_end_parsing(void **state)
{
	struct df_opt_result r;
	struct df_err err = DF_ERR_INIT;
	struct values v;

	(void)state;
	assert_int_equal(parse(&v, &r, &err, WORDS("-qh", "--bogus")), DF_OK);
	assert_true(r.help && v.quiet);
	df_opt_result_release(&r);
	assert_int_equal(parse(&v, &r, &err, WORDS("--vers", "--bogus")), DF_OK);
	assert_true(r.version && !r.help);
	df_opt_result_release(&r);
}

static void
refuses_and_says_why(void **state)
{
	static const struct {
		const char *words[4], *says;
	} t[] = {
		{ { "--bogus" }, "unknown option --bogus (-h lists them)" },
		{ { "--outptu=x" }, "; did you mean --output?" },
		{ { "--shrad", "1/2" }, "; did you mean --shard?" },
		{ { "--n" }, "ambiguous (--number, --name)" },
		{ { "--ver" }, "ambiguous" },
		{ { "-x" }, "unknown option -x" },
		{ { "-\xC3\xA9" }, "unknown option -\xC3\xA9" },
		{ { "-qx" }, "unknown option -x" },
		{ { "--output" }, "--output needs a value (FILE)" },
		{ { "-n" }, "-n needs a value (N)" },
		{ { "--quiet=yes" }, "--quiet takes no value" },
		{ { "--no-quiet=1" }, "--no-quiet takes no value" },
		{ { "--no-output" }, "unknown option --no-output" },
		{ { "--=x" }, "unknown option --" },
		{ { "-n", "" }, "'' is not a whole number" },
		{ { "-n", "1.5" }, "'1.5' is not a whole number" },
		{ { "-n", " 1" }, "is not a whole number" },
		{ { "-n101" }, "-n: 101 is not in [-5, 100]" },
		{ { "-n", "99999999999999999999" }, "is not in" },
		{ { "--rate", "nan" }, "--rate: 'nan' is not a number" },
		{ { "--rate", "0x1p3" }, "is not a number" },
		{ { "--rate", "1e999" }, "is too large" },
		{ { "--rate", "1.1" }, "is not in [0, 1]" },
		{ { "--rate", "--" }, "is not a number" },
		{ { "--form", "adm" }, "'adm' is not one of sgd, adam, sign; did you mean 'adam'?" },
		{ { "--form", "" }, "is not one of" },
		{ { "--shard", "0/4" }, "--shard: 0 is not in [1, 4]" },
		{ { "--shard", "5/4" }, "5 is not in [1, 4]" },
		{ { "--shard", "4" }, "is not of the form i/n" },
		{ { "--shard", "/4" }, "is not of the form i/n" },
		{ { "--shard", "1/" }, "is not a whole number" },
		{ { "--shard", "1/2/3" }, "is not a whole number" },
		{ { "--shard", "00000000000000000000000000001/2" }, "is not of the form i/n" },
		{ { "-v3" }, "unknown option -3" },
		{ { "--verbose=3" }, "is not in [0, 2]" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct df_opt_result r;
		struct df_err err = DF_ERR_INIT;
		struct values v;

		if (parse(&v, &r, &err, t[i].words) != DF_EUSAGE)
			fail_msg("'%s' was accepted", t[i].words[0]);
		if (strstr(err.msg, t[i].says) == NULL)
			fail_msg("'%s': got \"%s\", want \"%s\"", t[i].words[0], err.msg, t[i].says);
		free(v.names.v);
	}
}

/* Whatever the words, the parser ends with success or a message, and touches nothing it must not (ASan). */
static void
survives_arbitrary_words(void **state)
{
	static const char *const bits[] = { "-", "--", "=", "n", "no-", "output", "q", "v", "9", "/", "shard", "form",
		"\xFF", "%s", "%n", "rate", "name", " ", "h", "1e9", "auto", "" };
	const size_t n_bits = sizeof(bits) / sizeof(bits[0]);
	uint64_t draw = 0;
	int accepted = 0;

	(void)state;
	for (int round = 0; round < 20000; round++) {
		char words[5][64];
		const char *argv[6] = { NULL };
		struct df_opt_result r;
		struct df_err err = DF_ERR_INIT;
		struct values v;
		uint32_t w[4];
		int rc;

		df_rng_words(1, 0, 0, draw++, w);
		for (uint32_t k = 0; k < 1 + w[0] % 5; k++) {
			words[k][0] = '\0';
			for (uint32_t m = 0; m < 1 + w[1] % 4; m++) {
				uint32_t x[4];

				df_rng_words(1, 1, 0, draw++, x);
				strcat(words[k], bits[x[0] % n_bits]);
			}
			argv[k] = words[k];
		}
		rc = parse(&v, &r, &err, argv);
		assert_true(rc == DF_OK || (rc == DF_EUSAGE && err.msg[0]));
		if (rc == DF_OK) {
			accepted++;
			df_opt_result_release(&r);
		}
		free(v.names.v);
	}
	print_message("# %d of 20000 accepted\n", accepted);
	assert_true(accepted > 100 && accepted < 19000);
}

static void
very_long_words_are_refused_in_short_messages(void **state)
{
	char word[100000];
	struct df_opt_result r;
	struct df_err err = DF_ERR_INIT;
	struct values v;

	(void)state;
	memset(word, 'a', sizeof(word) - 1);
	word[sizeof(word) - 1] = '\0';
	memcpy(word, "--", 2);
	assert_int_equal(parse(&v, &r, &err, WORDS(word)), DF_EUSAGE);
	assert_true(strlen(err.msg) < 200);
	assert_int_equal(parse(&v, &r, &err, WORDS("-n", word + 2)), DF_EUSAGE);
	assert_true(strlen(err.msg) < 200);
}

static void
shard_auto_reads_the_slurm_array(void **state)
{
	static const struct {
		const char *id, *min, *max, *step, *count;
		int rc;
		uint32_t i, n;
		const char *arg;
	} t[] = {
		{ "3", "0", "15", "1", "16", DF_OK, 3, 16, NULL },
		{ "9", "1", "17", "4", "5", DF_OK, 2, 5, NULL },
		{ "5", "1", "7", NULL, "7", DF_OK, 4, 7, NULL },
		{ "5", "1", "7", "1", "3", DF_EUSAGE, 0, 0, NULL },  /* sparse: 1,5,7 */
		{ "6", "1", "17", "4", "5", DF_EUSAGE, 0, 0, NULL }, /* not an element */
		{ "x", "0", "15", "1", "16", DF_EUSAGE, 0, 0, NULL },
		{ "3", "0", NULL, "1", "16", DF_EUSAGE, 0, 0, NULL },
		/* One task alone: the first may be a whole job, another is one of several that runs again. */
		{ "1", "1", "1", "1", "1", DF_OK, 0, 1, NULL },
		{ "0", "0", "0", "1", "1", DF_OK, 0, 1, NULL },
		{ "3", "3", "3", "1", "1", DF_EUSAGE, 0, 0, NULL },
		/* auto/N: the task's number is the part's, in any array that counts from 1 */
		{ "3", "3", "3", "1", "1", DF_OK, 2, 4, "--shard=auto/4" },
		{ "4", "2", "4", "2", "2", DF_OK, 3, 4, "--shard=auto/4" },
		{ "5", "1", "7", "1", "3", DF_OK, 4, 7, "--shard=auto/7" }, /* sparse: 1,5,7 */
		{ "4", NULL, NULL, NULL, NULL, DF_OK, 3, 4, "--shard=auto/4" },
		{ "5", NULL, NULL, NULL, NULL, DF_EUSAGE, 0, 0, "--shard=auto/4" },
		{ "0", "0", "3", "1", "4", DF_EUSAGE, 0, 0, "--shard=auto/4" }, /* counts from 0 */
		{ "2", "0", "3", "1", "4", DF_EUSAGE, 0, 0, "--shard=auto/4" },
		{ "2", "1", "8", "1", "8", DF_EUSAGE, 0, 0, "--shard=auto/4" }, /* more tasks than parts */
		{ "x", "1", "4", "1", "4", DF_EUSAGE, 0, 0, "--shard=auto/4" },
		{ "2", "1", "4", "1", "4", DF_EUSAGE, 0, 0, "--shard=auto/0" },
		{ "2", "1", "4", "1", "4", DF_EUSAGE, 0, 0, "--shard=auto/" },
		{ "2", "1", "4", "1", "4", DF_OK, 2, 5, "--shard=3/5" },
	};
	static const char *const names[] = { "SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_MAX",
		"SLURM_ARRAY_TASK_STEP", "SLURM_ARRAY_TASK_COUNT" };
	struct df_opt_result r;
	struct df_err err = DF_ERR_INIT;
	struct values v;

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		const char *values[] = { t[i].id, t[i].min, t[i].max, t[i].step, t[i].count };

		for (int k = 0; k < 5; k++) {
			if (values[k])
				setenv(names[k], values[k], 1);
			else
				unsetenv(names[k]);
		}
		assert_int_equal(parse(&v, &r, &err, WORDS(t[i].arg ? t[i].arg : "--shard=auto")), t[i].rc);
		if (t[i].rc == DF_OK) {
			assert_true(v.shard.i == t[i].i && v.shard.n == t[i].n);
			assert_true(v.shard.guessed == !t[i].arg);
			df_opt_result_release(&r);
		}
	}
	for (int k = 0; k < 5; k++)
		unsetenv(names[k]);
	assert_int_equal(parse(&v, &r, &err, WORDS("--shard=auto")), DF_OK);
	assert_true(v.shard.i == 0 && v.shard.n == 1);
	df_opt_result_release(&r);
	assert_int_equal(parse(&v, &r, &err, WORDS("--shard=auto/4")), DF_EUSAGE); /* never the whole job */
	assert_int_equal(parse(&v, &r, &err, WORDS("--shard=2/3")), DF_OK);
	assert_true(v.shard.i == 1 && v.shard.n == 3);
	df_opt_result_release(&r);
}

static void
help_shows_defaults_within_80_columns(void **state)
{
	static const char *const many[] = { "alpha", "beta", "gamma", "delta", "epsilon", "zeta", NULL };
	int64_t n = 2048;
	double x = 1e-8;
	int form = 1, greek = 3;
	bool on = true, off = false;
	const char *file = "out.h5", *none = NULL;
	const struct df_opt opts[] = {
		{ .name = "number",
		    .short_name = 'n',
		    .type = DF_OPT_INT,
		    .value = &n,
		    .arg = "N",
		    .help = "dimensions" },
		{ .name = "adam-eps",
		    .type = DF_OPT_DOUBLE,
		    .value = &x,
		    .arg = "X",
		    .help =
			"a long text about a small number, long enough to be wrapped onto the next line of the help" },
		{ .name = "form", .type = DF_OPT_CHOICE, .value = &form, .choices = forms, .help = "gradient" },
		{ .name = "greek",
		    .type = DF_OPT_CHOICE,
		    .value = &greek,
		    .choices = many,
		    .arg = "NAME",
		    .help = "letter" },
		{ .type = DF_OPT_GROUP, .help = "Output" },
		{ .name = "output",
		    .short_name = 'o',
		    .type = DF_OPT_STR,
		    .value = &file,
		    .arg = "FILE",
		    .help = "where" },
		{ .name = "quite-a-long-option-name",
		    .type = DF_OPT_STR,
		    .value = &none,
		    .arg = "FILE",
		    .help = "why" },
		{ .name = "one-with-more-to-say",
		    .type = DF_OPT_STR,
		    .value = &none,
		    .arg = "FILE",
		    .help = "what does not fit beside a long name, but below it" },
		{ .name = "row",
		    .type = DF_OPT_INT,
		    .value = &(int64_t){ -1 },
		    .arg = "N",
		    .max = 9,
		    .help = "none by default" },
		{ .name = "on", .type = DF_OPT_FLAG, .value = &on, .help = "a flag" },
		{ .name = "off", .type = DF_OPT_FLAG, .value = &off, .help = "another" },
		DF_OPT_END,
	};
	struct df_buf b = DF_BUF_INIT;
	struct df_err err = DF_ERR_INIT;

	(void)state;
	df_opt_help(opts, &b);
	assert_int_equal(df_buf_check(&b, &err), DF_OK);
	assert_string_equal(b.data,
	    "  -n, --number=N            dimensions [2048]\n"
	    "      --adam-eps=X          a long text about a small number, long enough to be\n"
	    "                            wrapped onto the next line of the help [1e-08]\n"
	    "      --form=sgd|adam|sign  gradient [adam]\n"
	    "      --greek=NAME          letter: alpha, beta, gamma, delta, epsilon, zeta\n"
	    "                            [delta]\n"
	    "Output:\n"
	    "  -o, --output=FILE         where [out.h5]\n"
	    "      --quite-a-long-option-name=FILE  why\n"
	    "      --one-with-more-to-say=FILE\n"
	    "                            what does not fit beside a long name, but below it\n"
	    "      --row=N               none by default\n"
	    "      --on                  a flag [on; --no-on]\n"
	    "      --off                 another\n"
	    "  -h, --help, --version     this text; name and version\n");
	df_buf_release(&b);
}

static void
list_is_for_programs(void **state)
{
	static const char *const words[] = { "bytes", NULL };
	struct df_strlist list = { NULL, 0, 0 };
	struct df_shard_arg shard = { .n = 1 };
	const char *text = NULL;
	int64_t n = 1;
	double x = 1;
	bool on = false;
	int form = 0;
	const struct df_opt opts[] = {
		{ .type = DF_OPT_GROUP, .help = "A heading" },
		{ .name = "count",
		    .short_name = 'n',
		    .type = DF_OPT_INT,
		    .value = &n,
		    .arg = "N",
		    .help = "how many, of all" },
		{ .name = "eps", .type = DF_OPT_DOUBLE, .value = &x, .arg = "X", .help = "small" },
		{ .name = "form", .type = DF_OPT_CHOICE, .value = &form, .choices = forms, .help = "which" },
		{ .name = "tokenizer",
		    .type = DF_OPT_STR,
		    .value = &text,
		    .choices = words,
		    .arg = "DIR",
		    .help = "a word or a path" },
		{ .name = "list-only", .type = DF_OPT_FLAG, .value = &on, .help = "a flag" },
		{ .name = "file", .type = DF_OPT_LIST, .value = &list, .arg = "FILE", .help = "files" },
		{ .name = "shard", .type = DF_OPT_SHARD, .value = &shard, .arg = "i/n" },
		{ .name = "verbose", .short_name = 'v', .type = DF_OPT_COUNT, .value = &n, .help = "words" },
		DF_OPT_END,
	};
	char *asked[] = { "df-x", "--no-such", "--list-options", NULL };
	char *abbreviated[] = { "df-x", "--list", NULL };
	struct df_opt_result r;
	struct df_buf b = DF_BUF_INIT;
	struct df_err err = DF_ERR_INIT;

	(void)state;
	df_opt_list(opts, &b);
	assert_int_equal(df_buf_check(&b, &err), DF_OK);
	assert_string_equal(b.data,
	    "count\tn\tinteger\tN\t-\thow many, of all\t-\n"
	    "eps\t-\tnumber\tX\t-\tsmall\t-\n"
	    "form\t-\tchoice\t-\tsgd|adam|sign\twhich\t-\n"
	    "tokenizer\t-\tstring\tDIR\tbytes\ta word or a path\t-\n"
	    "list-only\t-\tflag\t-\t-\ta flag\t-\n"
	    "file\t-\tlist\tFILE\t-\tfiles\t-\n"
	    "shard\t-\tshard\ti/n\t-\t-\t-\n"
	    "verbose\tv\tcount\t-\t-\twords\t-\n"
	    "help\th\tflag\t-\t-\tprint how to use the program\t-\n"
	    "version\t-\tflag\t-\t-\tprint the program's name and version\t-\n");
	df_buf_release(&b);

	/* Asked for by its whole name only: an abbreviation is the table's own. */
	assert_int_equal(df_opt_parse(opts, 2, asked + 1, &r, &err), DF_OK);
	assert_true(r.list_options);
	df_opt_result_release(&r);
	assert_int_equal(df_opt_parse(opts, 3, asked, &r, &err), DF_EUSAGE);
	assert_int_equal(df_opt_parse(opts, 2, abbreviated, &r, &err), DF_OK);
	assert_true(on && !r.list_options);
	df_opt_result_release(&r);
}

/* What an option is for is asked of those on the command line only, by whatever name they are given. */
static void
tasks_have_options_of_their_own(void **state)
{
	static int64_t shots, label;
	static bool json, letters;
	static const struct df_opt opts[] = {
		{ .name = "json", .type = DF_OPT_FLAG, .value = &json },
		{ .name = "shots", .short_name = 's', .type = DF_OPT_INT, .value = &shots, .only = 2 },
		{ .name = "letters", .type = DF_OPT_FLAG, .value = &letters, .only = 2 | 4 },
		{ .name = "label", .type = DF_OPT_INT, .value = &label, .only = 1 },
		DF_OPT_END,
	};
	static const char *const names[] = { "tokens", "--mmlu", "--dataset" };
	const struct {
		const char *word;
		unsigned task;
		const char *message; /* NULL: it may be given */
	} cases[] = { { "--json", 1, NULL }, { "--json", 4, NULL }, { "--label=0", 1, NULL },
		{ "--label=0", 2, "--label is for tokens" }, { "-s3", 2, NULL }, { "-s0", 4, "--shots is for --mmlu" },
		{ "--letters", 4, NULL }, { "--no-let", 1, "--letters is for --mmlu and --dataset" },
		{ "shots", 1, NULL }, { "--json", 8, NULL } };

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char *argv[] = { (char *)"prog", (char *)(uintptr_t)cases[i].word };
		struct df_err err = DF_ERR_INIT;
		struct df_opt_result r;

		assert_int_equal(df_opt_parse(opts, 2, argv, &r, &err), DF_OK);
		assert_int_equal(
		    df_opt_check_task(opts, &r, cases[i].task, names, &err), cases[i].message ? DF_EUSAGE : DF_OK);
		assert_string_equal(err.msg, cases[i].message ? cases[i].message : "");
		df_opt_result_release(&r);
	}
}

/* A whole name is meant, also when longer names that begin with it come before it in the table. */
static void
a_whole_name_is_no_abbreviation(void **state)
{
	static int64_t count, compat, c;
	static const struct df_opt opts[] = {
		{ .name = "count", .type = DF_OPT_INT, .value = &count },
		{ .name = "compat", .type = DF_OPT_INT, .value = &compat },
		{ .name = "c", .type = DF_OPT_INT, .value = &c },
		DF_OPT_END,
	};
	char *argv[] = { (char *)"prog", (char *)"--c=3", (char *)"--co=4" };
	struct df_err err = DF_ERR_INIT;
	struct df_opt_result r;

	(void)state;
	assert_int_equal(df_opt_parse(opts, 2, argv, &r, &err), DF_OK);
	df_opt_result_release(&r);
	assert_int_equal(c, 3);
	assert_int_equal(df_opt_parse(opts, 3, argv, &r, &err), DF_EUSAGE);
	assert_string_equal(err.msg, "option --co is ambiguous (--count, --compat)");
	df_opt_result_release(&r);
}

/* Known words from an array or a function look the same. */
static const char *const *
give_forms(void)
{
	return forms;
}

static void
words_of_a_function(void **state)
{
	static const char *value;
	static const struct df_opt opts[] = {
		{ .name = "a", .type = DF_OPT_STR, .value = &value, .arg = "A", .choices = forms },
		{ .name = "b", .type = DF_OPT_STR, .value = &value, .arg = "B", .words = give_forms },
		DF_OPT_END,
	};
	struct df_buf b = DF_BUF_INIT;

	(void)state;
	df_opt_list(opts, &b);
	assert_int_equal(df_buf_check(&b, NULL), DF_OK);
	assert_non_null(strstr(b.data, "a\t-\tstring\tA\tsgd|adam|sign\t"));
	assert_non_null(strstr(b.data, "b\t-\tstring\tB\tsgd|adam|sign\t"));
	df_buf_release(&b);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepts_gnu_manners),
		cmocka_unit_test(options_of_other_commands_are_named),
		cmocka_unit_test(the_first_operand_is_found),
		cmocka_unit_test(help_and_version_end_parsing),
		cmocka_unit_test(refuses_and_says_why),
		cmocka_unit_test(survives_arbitrary_words),
		cmocka_unit_test(very_long_words_are_refused_in_short_messages),
		cmocka_unit_test(shard_auto_reads_the_slurm_array),
		cmocka_unit_test(help_shows_defaults_within_80_columns),
		cmocka_unit_test(list_is_for_programs),
		cmocka_unit_test(tasks_have_options_of_their_own),
		cmocka_unit_test(a_whole_name_is_no_abbreviation),
		cmocka_unit_test(words_of_a_function),
	};

	return cmocka_run_group_tests_name("opt", tests, NULL, NULL);
}
