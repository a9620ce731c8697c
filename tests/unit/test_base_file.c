/*
 * test_base_file.c - outputs appear whole or not at all; what a kill leaves is cleaned up by the next writer.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <dirent.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/text_out.h"

/* Each test runs in a fresh directory of its own. */
static char *scratch;

static int
enter(void **state)
{
	char name[] = "/tmp/df-file.XXXXXX";

	(void)state;
	if (mkdtemp(name) == NULL || chdir(name) != 0)
		return -1;
	scratch = strdup(name);
	return 0;
}

static int
leave(void **state)
{
	int rc;

	(void)state;
	rc = chdir("/") == 0 && df_rmtree(scratch, NULL) == DF_OK ? 0 : -1;
	free(scratch);
	return rc;
}

/* The names in a directory, hidden ones too, but for "." and ".."; asserts that they are `want` in number. */
static void
assert_entries(const char *dir, int want)
{
	struct dirent *e;
	DIR *d = opendir(dir);
	int n = 0;

	assert_non_null(d);
	while ((e = readdir(d)) != NULL)
		n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	closedir(d);
	assert_int_equal(n, want);
}

static void
assert_content(const char *path, const char *want)
{
	struct df_err err = DF_ERR_INIT;
	char *data = NULL;
	size_t n;

	if (df_file_get(path, 1 << 20, &data, &n, &err) != DF_OK)
		fail_msg("%s", err.msg);
	assert_string_equal(data, want);
	assert_int_equal(n, strlen(want));
	free(data);
}

static void
scribble(const char *path, const char *text)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void
put_and_get(void **state)
{
	struct df_err err = DF_ERR_INIT;

	(void)state;
	assert_int_equal(df_file_put("a", "one", 3, &err), DF_OK);
	assert_content("a", "one");
	assert_int_equal(df_file_put("./a", "", 0, &err), DF_OK);
	assert_content("a", "");
	assert_entries(".", 1);
}

static void
not_there_until_commit(void **state)
{
	struct df_atomic a = DF_ATOMIC_INIT;
	struct df_err err = DF_ERR_INIT;

	(void)state;
	scribble("x.h5", "old");
	assert_int_equal(df_atomic_open(&a, "x.h5", &err), DF_OK);
	scribble(a.tmp, "new");
	assert_content("x.h5", "old");
	assert_int_equal(df_atomic_commit(&a, &err), DF_OK);
	assert_content("x.h5", "new");
	assert_entries(".", 1);
	df_atomic_discard(&a);
	assert_content("x.h5", "new");
}

static void
discard_leaves_the_old_one(void **state)
{
	struct df_atomic a = DF_ATOMIC_INIT;
	struct df_err err = DF_ERR_INIT;

	(void)state;
	scribble("x", "old");
	assert_int_equal(df_atomic_open(&a, "x", &err), DF_OK);
	scribble(a.tmp, "half");
	df_atomic_discard(&a);
	assert_content("x", "old");
	assert_entries(".", 1);
	df_atomic_discard(&a);
}

static void
stale_leftovers_are_replaced(void **state)
{
	struct df_atomic a = DF_ATOMIC_INIT;
	struct df_err err = DF_ERR_INIT;

	(void)state;
	scribble(".x.df-tmp", "from a killed writer");
	scribble(".x.df-lock", "");
	assert_int_equal(df_atomic_open(&a, "x", &err), DF_OK);
	assert_false(df_file_exists(a.tmp));
	scribble(a.tmp, "new");
	assert_int_equal(df_atomic_commit(&a, &err), DF_OK);
	assert_content("x", "new");
	assert_entries(".", 1);

	/* A directory where a file was begun, and the other way round. */
	assert_int_equal(mkdir(".y.df-tmp", 0777), 0);
	scribble(".y.df-tmp/z", "z");
	assert_int_equal(df_file_put("y", "y", 1, &err), DF_OK);
	scribble(".d.df-tmp", "file");
	assert_int_equal(df_atomic_mkdir(&a, "d", &err), DF_OK);
	assert_true(df_file_is_dir(a.tmp));
	assert_int_equal(df_atomic_commit(&a, &err), DF_OK);
	assert_entries(".", 3);
}

static void
second_writer_is_refused(void **state)
{
	struct df_atomic a = DF_ATOMIC_INIT, b = DF_ATOMIC_INIT;
	struct df_err err = DF_ERR_INIT;
	int status;
	pid_t pid;

	(void)state;
	assert_int_equal(df_atomic_open(&a, "x", &err), DF_OK);
	scribble(a.tmp, "first");
	/* In this process, and in another. */
	assert_int_equal(df_atomic_open(&b, "x", &err), DF_ECREATE);
	assert_non_null(strstr(err.msg, "another process is writing it"));
	df_atomic_discard(&b);
	pid = fork();
	if (pid == 0) {
		/* A child that does not inherit the lock. */
		close(a.lock_fd);
		a.lock_fd = -1;
		_exit(df_atomic_open(&b, "x", NULL) == DF_ECREATE ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	assert_int_equal(status, 0);
	/* The refused ones harmed nothing. */
	assert_content(a.tmp, "first");
	assert_int_equal(df_atomic_open(&b, "y", &err), DF_OK);
	df_atomic_discard(&b);
	assert_int_equal(df_atomic_commit(&a, &err), DF_OK);
	assert_content("x", "first");
	assert_int_equal(df_file_put("x", "second", 6, &err), DF_OK);
	assert_content("x", "second");
}

/*
 * Writers that come and go, each checking that it is alone: the lock file is
 * unlinked by its last owner, and that must not let two in.
 */
static void
lock_excludes_under_contention(void **state)
{
	pid_t pids[4];
	int won_total = 0;

	(void)state;
	for (int p = 0; p < 4; p++) {
		pids[p] = fork();
		if (pids[p] == 0) {
			time_t end = time(NULL) + 2;
			int won = 0;

			while (time(NULL) < end && won < 200) {
				struct df_atomic a = DF_ATOMIC_INIT;
				int fd;

				if (df_atomic_open(&a, "x", NULL) != DF_OK)
					continue;
				fd = open("inside", O_CREAT | O_EXCL | O_WRONLY, 0666);
				if (fd < 0)
					_exit(255);
				close(fd);
				if (won % 2) {
					close(open(a.tmp, O_CREAT | O_WRONLY, 0666));
					unlink("inside");
					if (df_atomic_commit(&a, NULL) != DF_OK)
						_exit(254);
				} else {
					unlink("inside");
					df_atomic_discard(&a);
				}
				won++;
			}
			_exit(won);
		}
	}
	for (int p = 0; p < 4; p++) {
		int status;

		waitpid(pids[p], &status, 0);
		assert_true(WIFEXITED(status));
		if (WEXITSTATUS(status) > 200)
			fail_msg("a writer ended with %d (255: was not alone)", WEXITSTATUS(status));
		won_total += WEXITSTATUS(status);
	}
	print_message("# %d turns won\n", won_total);
	assert_true(won_total >= 8); /* a loaded machine: each of them took its turns */
}

/* Killed at any instant: the target holds one of the two whole contents, and the next writer leaves nothing behind. */
static void
kill_at_any_instant(void **state)
{
	static char big[2][200000];
	int killed_midway = 0;

	(void)state;
	memset(big[0], 'a', sizeof(big[0]));
	memset(big[1], 'b', sizeof(big[1]));
	for (int round = 0; round < 60; round++) {
		const char *dirs[2] = { "a", "b" };
		struct df_err err = DF_ERR_INIT;
		struct timespec nap = { 0, 0 };
		char *data = NULL;
		size_t n;
		int status;
		pid_t pid = fork();

		if (pid == 0) {
			for (int i = 0;; i++) {
				struct df_atomic a = DF_ATOMIC_INIT;
				char path[64];

				if (df_file_put("x", big[i % 2], sizeof(big[0]), NULL) != DF_OK ||
				    df_atomic_mkdir(&a, "d", NULL) != DF_OK)
					_exit(1);
				for (int k = 0; k < 3; k++) {
					snprintf(path, sizeof(path), "%s/%s%d", a.tmp, dirs[i % 2], k);
					close(open(path, O_CREAT | O_WRONLY, 0666));
				}
				if (df_atomic_commit(&a, NULL) != DF_OK)
					_exit(2);
			}
		}
		nap.tv_nsec = (long)(df_rng_uniform(9, 0, 0, (uint64_t)round) * 20e6);
		nanosleep(&nap, NULL);
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		assert_true(WIFSIGNALED(status));
		killed_midway += df_file_exists(".x.df-lock") || df_file_exists(".d.df-lock");
		if (df_file_exists("x")) {
			assert_int_equal(df_file_get("x", 1 << 20, &data, &n, &err), DF_OK);
			assert_int_equal(n, sizeof(big[0]));
			assert_true(memcmp(data, big[0], n) == 0 || memcmp(data, big[1], n) == 0);
			free(data);
		}
		if (df_file_exists("d")) {
			assert_entries("d", 3);
			assert_true(df_file_exists("d/a2") != df_file_exists("d/b2"));
		}
	}
	print_message("# %d of 60 killed while writing\n", killed_midway);
	assert_true(killed_midway > 0);
	{
		struct df_atomic a = DF_ATOMIC_INIT;
		struct df_err err = DF_ERR_INIT;

		assert_int_equal(df_file_put("x", "end", 3, &err), DF_OK);
		assert_int_equal(df_atomic_mkdir(&a, "d", &err), DF_OK);
		assert_int_equal(df_atomic_commit(&a, &err), DF_OK);
		assert_entries("d", 0);
		assert_entries(".", 2);
	}
}

static void
directory_replaces_directory(void **state)
{
	struct df_atomic a = DF_ATOMIC_INIT;
	struct df_err err = DF_ERR_INIT;
	char path[100];

	(void)state;
	assert_int_equal(df_mkdirs("run/ckpt/deep", &err), DF_OK);
	scribble("run/ckpt/deep/old", "old");
	assert_int_equal(df_atomic_mkdir(&a, "run/ckpt/", &err), DF_OK);
	assert_string_equal(a.path, "run/ckpt");
	snprintf(path, sizeof(path), "%s/new", a.tmp);
	scribble(path, "new");
	assert_true(df_file_exists("run/ckpt/deep/old"));
	assert_int_equal(df_atomic_commit(&a, &err), DF_OK);
	assert_content("run/ckpt/new", "new");
	assert_false(df_file_exists("run/ckpt/deep"));
	assert_entries("run", 1);
}

/* Where two names cannot be exchanged, the old directory steps aside first; a kill just then must not lose it. */
static void
directory_put_aside_comes_back(void **state)
{
	struct df_atomic a = DF_ATOMIC_INIT;
	struct df_err err = DF_ERR_INIT;

	(void)state;
	assert_int_equal(df_mkdirs(".d.df-old", &err), DF_OK);
	scribble(".d.df-old/f", "old");
	assert_int_equal(df_atomic_mkdir(&a, "d", &err), DF_OK);
	df_atomic_discard(&a);
	assert_content("d/f", "old");
	assert_entries(".", 1);
	/* Replaced already: then the one aside is only rubbish. */
	assert_int_equal(df_mkdirs(".d.df-old", &err), DF_OK);
	assert_int_equal(df_atomic_mkdir(&a, "d", &err), DF_OK);
	assert_int_equal(df_atomic_commit(&a, &err), DF_OK);
	assert_entries("d", 0);
	assert_entries(".", 1);
}

static void
refuses_impossible_targets(void **state)
{
	struct df_atomic a = DF_ATOMIC_INIT;
	struct df_err err = DF_ERR_INIT;
	char longname[300];

	(void)state;
	assert_int_equal(mkdir("dir", 0777), 0);
	assert_int_equal(df_atomic_open(&a, "dir", &err), DF_ECREATE);
	assert_string_equal(err.msg, "dir: is a directory");
	assert_int_equal(df_atomic_open(&a, "dir/", &err), DF_ECREATE);
	assert_int_equal(df_atomic_open(&a, "", &err), DF_ECREATE);
	assert_int_equal(df_atomic_open(&a, ".", &err), DF_ECREATE);
	assert_int_equal(df_atomic_mkdir(&a, "dir/..", &err), DF_ECREATE);
	scribble("file", "not to be lost");
	assert_int_equal(df_atomic_mkdir(&a, "file", &err), DF_ECREATE);
	assert_string_equal(err.msg, "file: exists and is not a directory");
	assert_int_equal(unlink("file"), 0);
	assert_int_equal(df_atomic_open(&a, "/dev/null", &err), DF_ECREATE);
	assert_non_null(strstr(err.msg, "not a regular file"));
	assert_int_equal(df_atomic_open(&a, "none/x", &err), DF_ECREATE);
	assert_non_null(strstr(err.msg, "No such file"));
	memset(longname, 'n', sizeof(longname) - 1);
	longname[sizeof(longname) - 1] = '\0';
	assert_int_equal(df_atomic_open(&a, longname, &err), DF_ECREATE);
	assert_null(a.tmp);
	assert_entries(".", 1);
}

/* pool.h5 -> /scratch/pool.h5 must not become a file on the small disk. */
static void
links_stay_links(void **state)
{
	struct df_atomic a = DF_ATOMIC_INIT;
	struct df_err err = DF_ERR_INIT;

	(void)state;
	assert_int_equal(mkdir("far", 0777), 0);
	scribble("far/x", "old");
	assert_int_equal(symlink("far/x", "x"), 0);
	assert_int_equal(symlink("x", "again"), 0);
	assert_int_equal(df_file_put("again", "new", 3, &err), DF_OK);
	assert_content("far/x", "new");
	assert_content("again", "new");
	assert_entries("far", 1);
	assert_entries(".", 3);

	/* Nothing there yet. */
	assert_int_equal(symlink("far/y", "y"), 0);
	assert_int_equal(df_file_put("y", "y", 1, &err), DF_OK);
	assert_content("far/y", "y");

	assert_int_equal(symlink("far/d", "d"), 0);
	assert_int_equal(df_atomic_mkdir(&a, "d", &err), DF_OK);
	assert_int_equal(df_atomic_commit(&a, &err), DF_OK);
	assert_entries("far", 3);
	assert_int_equal(symlink("loop", "loop"), 0);
	assert_int_equal(df_file_put("loop", "x", 1, &err), DF_ECREATE);
	assert_entries(".", 6);
}

static void
commit_without_a_file_fails_and_cleans_up(void **state)
{
	struct df_atomic a = DF_ATOMIC_INIT;
	struct df_err err = DF_ERR_INIT;

	(void)state;
	assert_int_equal(df_atomic_open(&a, "x", &err), DF_OK);
	assert_int_equal(df_atomic_commit(&a, &err), DF_EIO);
	assert_entries(".", 0);
}

static void
get_and_map_refuse_politely(void **state)
{
	struct df_err err = DF_ERR_INIT;
	const void *map = &err;
	char *data = NULL;
	size_t n = 1;

	(void)state;
	assert_int_equal(df_file_get("none", 10, &data, &n, &err), DF_ENOINPUT);
	assert_string_equal(err.msg, "none: No such file or directory");
	assert_int_equal(df_file_get(".", 10, &data, &n, &err), DF_ENOINPUT);
	scribble("eleven", "12345678901");
	assert_int_equal(df_file_get("eleven", 10, &data, &n, &err), DF_ERANGE);
	assert_string_equal(err.msg, "eleven: larger than 10 bytes");
	/* No end, and no size to be seen beforehand. */
	assert_int_equal(df_file_get("/dev/zero", 100000, &data, &n, &err), DF_ERANGE);
	assert_null(data);
	assert_int_equal(df_file_map("none", &map, &n, &err), DF_ENOINPUT);
	assert_int_equal(df_file_map("/dev/zero", &map, &n, &err), DF_ENOINPUT);
	assert_int_equal(df_file_map("eleven", &map, &n, &err), DF_OK);
	assert_memory_equal(map, "12345678901", 11);
	df_file_unmap(map, n);
	scribble("empty", "");
	assert_int_equal(df_file_map("empty", &map, &n, &err), DF_OK);
	assert_null(map);
	assert_int_equal(n, 0);
	df_file_unmap(map, n);
}

/* What was forgotten reads as before, whether it holds whole pages or not. */
static void
forgotten_bytes_come_again(void **state)
{
	enum { N = 5 * 4096 + 100 };
	static const size_t parts[][2] = { { 0, N }, { 1, N - 2 }, { 4095, 4098 }, { 100, 7 }, { 4096, 8192 },
		{ N, 0 } };
	struct df_err err = DF_ERR_INIT;
	const void *map = NULL;
	char *text = NULL;
	size_t n = 0;

	(void)state;
	assert_int_equal(df_alloc(&text, N, 1, "a text", &err), DF_OK);
	for (size_t i = 0; i < N; i++)
		text[i] = (char)('a' + i % 23);
	assert_int_equal(df_file_put("pages", text, N, &err), DF_OK);
	assert_int_equal(df_file_map("pages", &map, &n, &err), DF_OK);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		df_file_forget((const char *)map + parts[i][0], parts[i][1]);
		assert_memory_equal(map, text, N);
	}
	df_file_unmap(map, n);
	free(text);
}

/* Nothing there is an answer; not being able to look is an error; and no look hides an error before it. */
static void
probes(void **state)
{
	struct df_err err = DF_ERR_INIT;
	char name[300];
	bool there;

	(void)state;
	assert_int_equal(df_file_put("f", "x", 1, &err), DF_OK);
	assert_int_equal(symlink("loop", "loop"), 0);
	assert_int_equal(symlink("nowhere", "dangling"), 0);
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	assert_true(df_file_probe("f", &there, &err) == DF_OK && there);
	assert_true(df_file_probe(".", &there, &err) == DF_OK && there);
	assert_true(df_file_probe("none", &there, &err) == DF_OK && !there);
	assert_true(df_file_probe("none/f", &there, &err) == DF_OK && !there);
	assert_true(df_file_probe("f/none", &there, &err) == DF_OK && !there);
	assert_true(df_file_probe("dangling", &there, &err) == DF_OK && !there);
	assert_int_equal(df_file_probe("loop", &there, &err), DF_ENOINPUT);
	assert_non_null(strstr(err.msg, "loop: "));
	assert_non_null(strstr(err.msg, strerror(ELOOP)));
	assert_int_equal(df_file_probe("loop/f", &there, &err), DF_ENOINPUT);
	assert_int_equal(df_file_probe(name, &there, &err), DF_ENOINPUT);
	assert_non_null(strstr(err.msg, strerror(ENAMETOOLONG)));
	errno = EDOM;
	assert_false(df_file_exists("none") || df_file_is_dir("none") || df_file_is_dir("f") || df_file_exists("loop"));
	assert_int_equal(errno, EDOM);
	/* mkdir(2) says EEXIST of the link, whatever a look at it says. */
	assert_int_equal(df_mkdirs("dangling/a", &err), DF_ECREATE);
	assert_non_null(strstr(err.msg, strerror(EEXIST)));
	assert_int_equal(df_mkdirs("loop/a", &err), DF_ECREATE);
	assert_non_null(strstr(err.msg, strerror(EEXIST)));
	assert_int_equal(df_mkdirs(name, &err), DF_ECREATE);
	assert_non_null(strstr(err.msg, strerror(ENAMETOOLONG)));
}

static void
mkdirs_and_rmtree(void **state)
{
	struct df_err err = DF_ERR_INIT;

	(void)state;
	assert_int_equal(df_mkdirs("a//b/./c/", &err), DF_OK);
	assert_int_equal(df_mkdirs("a/b/c", &err), DF_OK);
	assert_true(df_file_is_dir("a/b/c"));
	scribble("a/f", "f");
	assert_int_equal(df_mkdirs("a/f/g", &err), DF_ECREATE);
	/* A link is removed, what it leads to is not. */
	scribble("keep", "keep");
	assert_int_equal(symlink("../keep", "a/link"), 0);
	assert_int_equal(symlink("/", "a/root"), 0);
	assert_int_equal(df_rmtree("a/", &err), DF_OK);
	assert_false(df_file_exists("a"));
	assert_content("keep", "keep");
	assert_int_equal(df_rmtree("a", &err), DF_OK);
	assert_int_equal(df_rmtree("", &err), DF_EUSAGE);
	assert_int_equal(df_rmtree("///", &err), DF_EUSAGE);
}

static void
paths(void **state)
{
	static const struct {
		const char *dir, *name, *want;
	} t[] = { { "d", "n", "d/n" }, { "d/", "n", "d/n" }, { NULL, "n", "n" }, { "", "n", "n" }, { ".", "n", "n" },
		{ "d", "/n", "/n" }, { "/", "n", "/n" } };
	struct df_err err = DF_ERR_INIT;

	(void)state;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		char *got = NULL;

		assert_int_equal(df_path_join(&got, t[i].dir, t[i].name, &err), DF_OK);
		assert_string_equal(got, t[i].want);
		free(got);
	}
	assert_string_equal(df_path_base("a/b"), "b");
	assert_string_equal(df_path_base("b"), "b");
	assert_string_equal(df_path_base("a/"), "");
}

static void
read_and_write_all(void **state)
{
	struct df_err err = DF_ERR_INIT;
	char data[8] = "";
	int fd[2];

	(void)state;
	assert_int_equal(pipe(fd), 0);
	assert_int_equal(df_write_all(fd[1], "12345", 5, &err), DF_OK);
	close(fd[1]);
	assert_int_equal(df_read_all(fd[0], data, 3, &err), DF_OK);
	assert_int_equal(df_read_all(fd[0], data, 3, &err), DF_EFORMAT);
	assert_string_equal(err.msg, "truncated: 1 bytes are missing");
	close(fd[0]);
	signal(SIGPIPE, SIG_IGN);
	assert_int_equal(pipe(fd), 0);
	close(fd[0]);
	assert_int_equal(df_write_all(fd[1], "x", 1, &err), DF_EIO);
	assert_string_equal(err.msg, "cannot write: Broken pipe");
	close(fd[1]);
	fd[0] = open("/dev/full", O_WRONLY);
	assert_int_equal(df_write_all(fd[0], "x", 1, &err), DF_EIO);
	assert_string_equal(err.msg, "cannot write: No space left on device");
	close(fd[0]);
}

/* A line, through a text output. */
static int
put_text(struct df_text_out *t, const char *text, struct df_err *err)
{
	struct df_buf b = DF_BUF_INIT;
	int rc;

	df_buf_puts(&b, text);
	rc = df_text_out_put(t, &b, err);
	df_buf_release(&b);
	return rc;
}

static void
text_is_there_after_commit(void **state)
{
	struct df_text_out t = DF_TEXT_OUT_INIT;
	struct df_err err = DF_ERR_INIT;

	(void)state;
	df_text_out_close(&t);
	assert_int_equal(df_text_out_commit(&t, &err), DF_OK);
	for (int commit = 0; commit < 2; commit++) {
		scribble("x.txt", "old");
		assert_int_equal(df_text_out_open(&t, "x.txt", &err), DF_OK);
		assert_int_equal(put_text(&t, "one\n", &err), DF_OK);
		assert_int_equal(put_text(&t, "", &err), DF_OK);
		assert_int_equal(put_text(&t, "two\n", &err), DF_OK);
		assert_content("x.txt", "old");
		if (commit)
			assert_int_equal(df_text_out_commit(&t, &err), DF_OK);
		df_text_out_close(&t);
		assert_content("x.txt", commit ? "one\ntwo\n" : "old");
		assert_entries(".", 1);
	}
	assert_int_equal(df_text_out_open(&t, "nowhere/x.txt", &err), DF_ECREATE);
	df_text_out_close(&t);
}

/* Each text is with the reader before the next one; standard output stays open. */
static void
text_on_standard_output(void **state)
{
	int saved = dup(STDOUT_FILENO), ends[2];
	struct df_text_out t = DF_TEXT_OUT_INIT;
	struct df_err err = DF_ERR_INIT;
	char got[8] = "";
	int rc[4];

	(void)state;
	fflush(stdout);
	assert_int_equal(pipe(ends), 0);
	dup2(ends[1], STDOUT_FILENO);
	close(ends[1]);
	rc[0] = df_text_out_open(&t, "-", &err);
	rc[1] = put_text(&t, "one\n", &err);
	rc[2] = read(ends[0], got, sizeof(got)) == 4 ? 0 : 1;
	rc[3] = df_text_out_commit(&t, &err);
	df_text_out_close(&t);
	assert_int_equal(write(STDOUT_FILENO, "x", 1), 1);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	close(ends[0]);
	for (int i = 0; i < 4; i++)
		assert_int_equal(rc[i], 0);
	assert_string_equal(got, "one\n");
	assert_entries(".", 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, enter, leave)

int
main(void)
{
	const struct CMUnitTest tests[] = {
		T(put_and_get),
		T(not_there_until_commit),
		T(discard_leaves_the_old_one),
		T(stale_leftovers_are_replaced),
		T(second_writer_is_refused),
		T(lock_excludes_under_contention),
		T(kill_at_any_instant),
		T(directory_replaces_directory),
		T(directory_put_aside_comes_back),
		T(refuses_impossible_targets),
		T(links_stay_links),
		T(commit_without_a_file_fails_and_cleans_up),
		T(get_and_map_refuse_politely),
		T(forgotten_bytes_come_again),
		T(probes),
		T(mkdirs_and_rmtree),
		T(paths),
		T(read_and_write_all),
		T(text_is_there_after_commit),
		T(text_on_standard_output),
	};

	return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}
