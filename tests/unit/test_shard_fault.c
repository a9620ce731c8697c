/*
 * test_shard_fault.c - damage, kills and full disks: found or harmless, never a crash, never a hang.
 */
#include "shard_help.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#define ROWS 60 /* of the small artefacts that are damaged */

/* Everything of the artefact at path: 1 = read and right, 0 = refused; anything else fails. */
static int
read_all(const char *path, bool stream, struct df_err *why)
{
	struct df_batch b = DF_BATCH_INIT;
	struct df_meta m = DF_META_INIT;
	struct df_set *s = NULL;
	uint64_t n, rows = 0;
	int rc;

	token_meta(&m);
	rc = df_set_open1(&s, DF_KIND_TOKENS, NULL, path, why);
	while (rc == DF_OK) {
		rc = df_set_next(s, 25, &b, &n, why);
		if (rc != DF_OK || n == 0)
			break;
		check_batch(&b, rows, n);
		rows += n;
	}
	if (rc == DF_OK) {
		assert_int_equal(rows, ROWS);
		assert_int_equal(df_set_is_stream(s), stream);
		/* The meta is right too, unless the flip made the lineage go away as a whole. */
		if (df_set_meta(s)->has_lineage)
			assert_string_equal(
			    df_meta_param(df_set_meta(s), "cutoff_len"), df_meta_param(&m, "cutoff_len"));
	} else {
		assert_true(rc == DF_EFORMAT || rc == DF_ERANGE || rc == DF_ENOINPUT || rc == DF_EUNSUPPORTED ||
		    rc == DF_ELINEAGE || rc == DF_ENOMEM);
		if (strstr(why->msg, path) == NULL)
			fail_msg("'%s' does not name the file", why->msg);
	}
	df_set_close(s);
	df_batch_release(&b);
	df_meta_release(&m);
	return rc == DF_OK;
}

static void
store(const char *path, const char *data, size_t n)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0 && write(fd, data, n) == (ssize_t)n);
	close(fd);
}

/* A stream of ROWS rows in a file: put through standard output. */
static void
write_stream(const char *path, uint64_t step)
{
	struct df_writer_opts opts = { .force_stream = true };
	struct df_batch b = DF_BATCH_INIT;
	struct df_writer *w;
	struct df_meta m;
	int saved, fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	fflush(stdout);
	saved = dup(STDOUT_FILENO);
	dup2(fd, STDOUT_FILENO);
	token_meta(&m);
	OK(df_writer_open(&w, "-", &m, token_cols, 5, NULL, &opts, err));
	for (uint64_t i = 0; i < ROWS; i += step) {
		make_tokens(&b, i, ROWS - i < step ? ROWS - i : step);
		OK(df_writer_put(w, &b, err));
	}
	OK(df_writer_commit(w, NULL, err));
	df_writer_close(w);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	close(fd);
	df_batch_release(&b);
	df_meta_release(&m);
}

static void
damage(const char *good, bool stream)
{
	struct df_err why = DF_ERR_INIT;
	char *data, path[512];
	size_t n, refused = 0, flips = 0;

	snprintf(path, sizeof(path), "%s", at("damaged"));
	OK(df_file_get(good, 1 << 30, &data, &n, err));
	/* Cut short, anywhere: never whole. */
	for (size_t len = 0; len < n; len += len < 100 ? 1 : n / 50) {
		store(path, data, len);
		if (read_all(path, stream, &why) != 0)
			fail_msg("cut to %zu of %zu bytes and not noticed", len, n);
	}
	/* One bit: found, or in a byte that means nothing. */
	for (size_t k = 0; k < n; k += n / 1500 + 1, flips++) {
		data[k] = (char)(data[k] ^ 1 << (k % 8));
		store(path, data, n);
		refused += !read_all(path, stream, &why);
		data[k] = (char)(data[k] ^ 1 << (k % 8));
	}
	print_message("%zu of %zu flipped bits were refused, the others did no harm\n", refused, flips);
	assert_true(refused * 3 > flips);
	/* Whole blocks gone: zeros. */
	for (size_t k = 0; k + 512 < n; k += n / 40) {
		char keep[512];

		memcpy(keep, data + k, 512);
		memset(data + k, 0, 512);
		store(path, data, n);
		read_all(path, stream, &why);
		memcpy(data + k, keep, 512);
	}
	free(data);
}

static void
test_damaged_file(void **state)
{
	(void)state;
	write_tokens(at("good.h5"), 0, ROWS, 20, DF_COMPRESS_DEFAULT, NULL);
	damage(at("good.h5"), false);
}

static void
test_damaged_stream(void **state)
{
	(void)state;
	write_stream(at("good.stream"), 20);
	damage(at("good.stream"), true);
}

/* Lengths that lie: nothing is allocated for them, and the message says truncated or damaged. */
static void
test_lying_lengths(void **state)
{
	static const uint64_t lies[] = { 1, 100, 1u << 20, (uint64_t)1 << 39, (uint64_t)1 << 60, UINT64_MAX };
	struct df_err why = DF_ERR_INIT;
	char *data;
	size_t n;

	(void)state;
	write_stream(at("lie.stream"), ROWS);
	OK(df_file_get(at("lie.stream"), 1 << 30, &data, &n, err));
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		memcpy(data + 16, &lies[i], 8);
		store(at("damaged"), data, n);
		assert_int_equal(read_all(at("damaged"), true, &why), 0);
	}
	free(data);
}

/* ---- resumable writers */

static void
resumable(const char *path, uint64_t end, uint64_t *done, bool commit, int64_t cutoff)
{
	struct df_writer_opts opts = { .resumable = true };
	struct df_batch b = DF_BATCH_INIT;
	struct df_writer *w;
	struct df_meta m;

	token_meta(&m);
	OK(df_meta_set_int(&m, "cutoff_len", cutoff, err));
	OK(df_writer_open(&w, path, &m, token_cols, 5, NULL, &opts, err));
	*done = df_writer_done_rows(w);
	assert_int_equal(*done, df_writer_done_batches(w) * 100);
	for (uint64_t i = *done; i < end; i += 100) {
		make_tokens(&b, i, 100);
		OK(df_writer_put(w, &b, err));
	}
	if (commit)
		OK(df_writer_commit(w, NULL, err));
	df_writer_close(w);
	df_batch_release(&b);
	df_meta_release(&m);
}

static void
test_resume(void **state)
{
	uint64_t done;
	char *work;
	size_t n;

	(void)state;
	write_tokens(at("plain.h5"), 0, 2000, 100, DF_COMPRESS_DEFAULT, NULL);
	resumable(at("r.h5"), 1000, &done, false, 512);
	assert_int_equal(done, 0);
	assert_false(df_file_exists(at("r.h5")));
	OK(df_file_get(at(".r.h5.df-work"), 1 << 30, &work, &n, err));
	/* A torn end, wherever it is torn. */
	for (size_t cut = 0; cut < 20; cut++) {
		store(at(".r.h5.df-work"), work, n - cut * n / 19);
		resumable(at("r.h5"), 2000, &done, true, 512);
		if (cut == 0)
			assert_int_equal(done, 1000);
		if (cut == 10)
			assert_in_range(done, 200, 700);
		same_bytes(at("r.h5"), at("plain.h5"));
		assert_false(df_file_exists(at(".r.h5.df-work")));
		unlink(at("r.h5"));
	}
	/* A bit that flipped in the middle: what is before it counts. */
	work[n / 2] ^= 4;
	store(at(".r.h5.df-work"), work, n);
	resumable(at("r.h5"), 2000, &done, true, 512);
	assert_in_range(done, 0, 600);
	same_bytes(at("r.h5"), at("plain.h5"));
	work[n / 2] ^= 4;
	/* Work of another command. */
	store(at(".r.h5.df-work"), work, n);
	resumable(at("r.h5"), 200, &done, true, 64);
	assert_int_equal(done, 0);
	free(work);
}

/* kill -9 at any moment; the next one goes on, and the end is that of an undisturbed run. */
static void
test_kill(void **state)
{
	uint64_t done = 0, most = 0;

	(void)state;
	write_tokens(at("plain.h5"), 0, 2000, 100, DF_COMPRESS_DEFAULT, NULL);
	for (int i = 0; i < 25; i++) {
		struct timespec t = { 0, (i * 7 % 25 + 1) * 1000000L };
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0) {
			resumable(at("k.h5"), 2000, &done, true, 512);
			_exit(0);
		}
		nanosleep(&t, NULL);
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		if (df_file_exists(at("k.h5"))) {
			same_bytes(at("k.h5"), at("plain.h5"));
			unlink(at("k.h5"));
		}
	}
	resumable(at("k.h5"), 2000, &done, true, 512);
	most = done > most ? done : most;
	print_message("the last run found %llu rows done\n", (unsigned long long)most);
	same_bytes(at("k.h5"), at("plain.h5"));
}

/* ---- a full disk (a limit on file size is the same to HDF5): an error, no file, and the process ends */
static void
test_full_disk(void **state)
{
	(void)state;
	for (rlim_t limit = 0; limit < 400000; limit += limit < 20000 ? 3000 : 50000) {
		int status;
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0) {
			struct rlimit r = { limit, limit };
			struct df_writer_opts opts = { .resumable = limit % 2000 == 0 };
			struct df_err why = DF_ERR_INIT;
			struct df_batch b = DF_BATCH_INIT;
			struct df_writer *w = NULL;
			struct df_meta m;
			int rc;

			signal(SIGXFSZ, SIG_IGN);
			alarm(20);
			token_meta(&m);
			make_tokens(&b, 0, 9000);
			setrlimit(RLIMIT_FSIZE, &r);
			rc = df_writer_open(&w, at("full.h5"), &m, token_cols, 5, NULL, &opts, &why);
			if (rc == DF_OK)
				rc = df_writer_put(w, &b, &why);
			if (rc == DF_OK)
				rc = df_writer_commit(w, NULL, &why);
			df_writer_close(w);
			df_batch_release(&b);
			df_meta_release(&m);
			exit((rc == DF_EIO || rc == DF_ECREATE) && strstr(why.msg, "full.h5") ? 42 : 1);
		}
		waitpid(pid, &status, 0);
		if (!WIFEXITED(status) || WEXITSTATUS(status) != 42)
			fail_msg("limit %llu: status %x", (unsigned long long)limit, (unsigned)status);
		assert_false(df_file_exists(at("full.h5")));
		assert_false(df_file_exists(at(".full.h5.df-tmp")));
	}
}

static int
setup(void **state)
{
	/* HDF5 that walks in circles is a failure, not a wait. */
	alarm(getenv("DF_SANITIZED") ? 900 : 120);
	return scratch_make(state);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_damaged_file),
		cmocka_unit_test(test_damaged_stream),
		cmocka_unit_test(test_lying_lengths),
		cmocka_unit_test(test_resume),
		cmocka_unit_test(test_kill),
		cmocka_unit_test(test_full_disk),
	};

	return cmocka_run_group_tests_name("shard_fault", tests, setup, scratch_remove);
}
