/*
 * test_base_inout.c - the name that a path leads to, and which outputs clash with which inputs.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/inout.h"
#include "base/mem.h"

static char *scratch;

static int
enter(void **state)
{
	char name[] = "/tmp/df-inout.XXXXXX";

	(void)state;
	if (mkdtemp(name) == NULL || chdir(name) != 0 || (scratch = realpath(".", NULL)) == NULL)
		return -1;
	df_inout_on();
	return 0;
}

static int
leave(void **state)
{
	int rc;

	(void)state;
	df_inout_off();
	rc = chdir("/") == 0 && df_rmtree(scratch, NULL) == DF_OK ? 0 : -1;
	free(scratch);
	return rc;
}

static void
assert_real(const char *path, const char *want)
{
	char *real = NULL, *full = NULL;
	struct df_err err = DF_ERR_INIT;

	assert_int_equal(df_asprintf(&full, &err, "%s%s%s", scratch, *want ? "/" : "", want), DF_OK);
	assert_int_equal(df_path_real(&real, path, &err), DF_OK);
	assert_string_equal(real, full);
	free(real);
	free(full);
}

static void
put(const char *path)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fclose(f);
}

static void
real_names(void **state)
{
	char *real = NULL;
	struct df_err err = DF_ERR_INIT;

	(void)state;
	assert_int_equal(mkdir("dir", 0777), 0);
	put("dir/file");
	assert_int_equal(symlink("dir", "way"), 0);
	assert_int_equal(symlink("way/none", "dangling"), 0);
	assert_int_equal(symlink("circle", "circle"), 0);
	assert_real(".", "");
	assert_real("dir", "dir");
	assert_real("dir/", "dir");
	assert_real("./way/../way/file", "dir/file");
	assert_real("none", "none");
	assert_real("way/none", "dir/none");
	assert_real("dangling", "dir/none");
	assert_real("way/no/such//place", "dir/no/such//place");
	assert_int_equal(df_path_real(&real, "/", &err), DF_OK);
	assert_string_equal(real, "/");
	free(real);
	assert_int_equal(df_path_real(&real, "/no-such-place/at-all", &err), DF_OK);
	assert_string_equal(real, "/no-such-place/at-all");
	free(real);
	assert_int_equal(df_path_real(&real, "circle", &err), DF_ECREATE);
}

static void
clashes(void **state)
{
	struct df_err err = DF_ERR_INIT;

	(void)state;
	assert_int_equal(mkdir("dir", 0777), 0);
	put("dir/file");
	put("other");
	assert_int_equal(link("dir/file", "hard"), 0);
	assert_int_equal(df_inout_read("dir/file", "--train", &err), DF_OK);
	assert_int_equal(df_inout_read("dir/later", "--val", &err), DF_OK);
	assert_int_equal(df_inout_write("hard", "--output", false, &err), DF_EUSAGE);
	assert_string_equal(err.msg, "--output hard: would replace --train dir/file, which this command reads");
	assert_int_equal(df_inout_write("dir/../dir/later", NULL, false, &err), DF_EUSAGE);
	assert_int_equal(df_inout_write("dir", "--output", true, &err), DF_EUSAGE);
	assert_string_equal(err.msg, "--output dir: would replace --train dir/file in it, which this command reads");
	/* A directory that is written into is not one that is replaced; a name that only begins alike is another. */
	assert_int_equal(df_inout_write("dir", NULL, false, &err), DF_OK);
	assert_int_equal(df_inout_write("di", "--output", true, &err), DF_OK);
	assert_int_equal(df_inout_write("./di", "--log", false, &err), DF_EUSAGE);
	assert_int_equal(df_inout_write("di/file", "--log", false, &err), DF_EUSAGE);
	assert_string_equal(err.msg, "--output di and --log di/file: two outputs in one place");
	/* The other order: first the output, then what is found out about. */
	assert_int_equal(df_inout_write("other", "--json", false, &err), DF_OK);
	assert_int_equal(df_inout_read("other", NULL, &err), DF_EUSAGE);
	/* Streams and devices are nobody's. */
	assert_int_equal(df_inout_write("-", "--output", false, &err), DF_OK);
	assert_int_equal(df_inout_write("/dev/null", "--output", false, &err), DF_OK);
	assert_int_equal(df_inout_read("/dev/null", "--train", &err), DF_OK);
}

static void
written_may_be_read(void **state)
{
	struct df_err err = DF_ERR_INIT;
	char *data = NULL;
	size_t n;

	(void)state;
	assert_int_equal(df_file_put("log", "a", 1, &err), DF_OK);
	assert_int_equal(df_file_get("log", 10, &data, &n, &err), DF_OK);
	free(data);
	/* From now on it is an input. */
	assert_int_equal(df_file_put("log", "b", 1, &err), DF_EUSAGE);
	/* In a directory of the command's own it is none, but for what an option names. */
	assert_int_equal(mkdir("run", 0777), 0);
	assert_int_equal(df_inout_own("run", &err), DF_OK);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(df_file_put("run/log", "a", 1, &err), DF_OK);
		assert_int_equal(df_file_get("run/log", 10, &data, &n, &err), DF_OK);
		free(data);
	}
	assert_int_equal(df_inout_read("run/log", "--train", &err), DF_OK);
	assert_int_equal(df_file_put("run/log", "b", 1, &err), DF_EUSAGE);
	assert_int_equal(df_file_get("run/log", 10, &data, &n, &err), DF_OK);
	assert_string_equal(data, "a");
	free(data);
	/* Off: the library lets its user do what it likes. */
	df_inout_off();
	assert_int_equal(df_file_put("run/log", "b", 1, &err), DF_OK);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(real_names, enter, leave),
		cmocka_unit_test_setup_teardown(clashes, enter, leave),
		cmocka_unit_test_setup_teardown(written_may_be_read, enter, leave),
	};

	return cmocka_run_group_tests_name("inout", tests, NULL, NULL);
}
