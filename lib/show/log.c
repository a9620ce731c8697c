/*
 * log.c - the logs of a run: which there are, and their lines.
 */
#include "show/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "show/show.h"

#define LOG_LIMIT ((size_t)1 << 30)

static const char *const names[] = { "trainer_log.jsonl", "trainer_state.json", "mixture_log.jsonl",
	"weight_log.jsonl" };
#define N_NAMES (sizeof(names) / sizeof(names[0]))

bool
df_log_name_ends(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && strcmp(s + n - m, end) == 0;
}

int
df_log_short_name(char **out, const char *path, struct df_err *err)
{
	size_t n = strlen(path);
	const char *base;

	while (n > 1 && path[n - 1] == '/')
		n--;
	for (size_t i = 0; i < N_NAMES; i++)
		if (df_log_name_ends(path, names[i]) && n > strlen(names[i]) && path[n - strlen(names[i]) - 1] == '/') {
			n -= strlen(names[i]) + 1;
			break;
		}
	base = path + n;
	while (base > path && base[-1] != '/')
		base--;
	return df_strndup(out, base, n - (size_t)(base - path), err);
}

/* ---- lines */

enum kind { LOSSES, MIXTURE, WEIGHTS };

static enum kind
kind_of(const struct df_json_value *line)
{
	if (df_json_get(line, "proportions"))
		return MIXTURE;
	if (df_json_get(line, "counts"))
		return WEIGHTS;
	return LOSSES;
}

static int
take(struct df_run_logs *r, enum kind kind, const struct df_json_value *line, struct df_err *err)
{
	if (df_json_type(line) != DF_JSON_OBJECT)
		return df_fail(err, DF_EFORMAT, "%s, not an object", df_json_type_name(line));
	switch (kind) {
	case MIXTURE: return df_mix_log_take(&r->mix, line, err);
	case WEIGHTS: return df_weight_log_take(&r->weight, line, err);
	default: return df_loss_log_take(&r->losses, line, err);
	}
}

static int
read_lines(struct df_run_logs *r, const char *path, struct df_err *err)
{
	struct df_json *doc = NULL;
	enum kind kind = LOSSES;
	bool first = true;
	char *data = NULL;
	size_t n, line = 0;
	int rc;

	DF_TRY(df_file_get(path, LOG_LIMIT, &data, &n, err));
	for (char *p = data, *end = data + n; p < end;) {
		char *nl = memchr(p, '\n', (size_t)(end - p)), *stop = nl ? nl : end;

		line++;
		if (stop > p && strspn(p, " \t\r") < (size_t)(stop - p)) {
			rc = df_json_parse_line(&doc, p, (size_t)(stop - p), err);
			/* A line that a kill cut short can only be the last one; it is not an error of the log. */
			if (rc != DF_OK && !nl && line > 1) {
				rc = DF_OK;
				break;
			}
			if (rc == DF_OK) {
				kind = first ? kind_of(df_json_root(doc)) : kind;
				first = false;
				rc = take(r, kind, df_json_root(doc), err);
			}
			if (rc != DF_OK) {
				df_err_prefix(err, "%s: line %zu: ", path, line);
				goto out;
			}
			df_json_free(doc);
			doc = NULL;
		}
		p = stop + 1;
	}
out:
	df_json_free(doc);
	free(data);
	return rc;
}

static int
read_state(struct df_run_logs *r, const char *path, struct df_err *err)
{
	const struct df_json_value *history;
	struct df_json *doc = NULL;
	int rc;

	DF_TRY(df_json_load(&doc, path, LOG_LIMIT, err));
	history = df_json_get(df_json_root(doc), "log_history");
	for (size_t i = 0; i < df_json_size(history); i++)
		DF_TRY(take(r, LOSSES, df_json_at(history, i), err));
	df_json_number(df_json_get(df_json_root(doc), "max_steps"), &r->losses.total_steps);
out:
	df_json_free(doc);
	return rc;
}

static int
read_log(struct df_run_logs *r, const char *path, struct df_err *err)
{
	int rc = df_log_name_ends(path, ".jsonl") ? read_lines(r, path, err) : read_state(r, path, err);

	if (rc == DF_OK && r->mix.n == 0 && r->weight.n == 0 && !r->losses.has)
		rc = df_fail(err, DF_EFORMAT, "%s: no loss, no proportions and no weights in it", path);
	return rc;
}

int
df_run_logs_read(struct df_run_logs *r, const char *path, struct df_err *err)
{
	char *log = NULL;
	bool any = false;
	int rc = DF_OK;

	if (!df_file_is_dir(path))
		return read_log(r, path, err);
	for (size_t i = 0; i < N_NAMES; i++) {
		/* trainer_state.json has what trainer_log.jsonl has. */
		if (i == 1 && any)
			continue;
		DF_TRY(df_path_join(&log, path, names[i], err));
		if (df_file_exists(log)) {
			DF_TRY(read_log(r, log, err));
			any = true;
		}
		free(log);
		log = NULL;
	}
	if (!any)
		rc = df_fail(err, DF_ENOINPUT, "%s: no trainer_log.jsonl and no other log in it", path);
out:
	free(log);
	return rc;
}

void
df_run_logs_release(struct df_run_logs *r)
{
	df_loss_log_release(&r->losses);
	df_mix_log_release(&r->mix);
	df_weight_log_release(&r->weight);
}

/* ---- what df-show asks */

bool
df_is_run(const char *path)
{
	bool is = df_log_name_ends(path, ".jsonl") || df_log_name_ends(path, ".json");

	for (size_t i = 0; i < N_NAMES && !is && df_file_is_dir(path); i++) {
		char *log = NULL;

		is = df_path_join(&log, path, names[i], NULL) == DF_OK && df_file_exists(log);
		free(log);
	}
	return is;
}

/* In JSON the first log that there is says the kind; the others are members of their own. */
static int
run_json(const struct df_run_logs *r, const char *path, struct df_buf *out, struct df_err *err)
{
	const bool losses = r->losses.has, mix = r->mix.n > 0;
	int rc = DF_OK;

	df_buf_puts(out, "{\"file\": ");
	df_buf_json_str(out, path);
	df_buf_printf(out, ", \"kind\": \"%s\"", losses ? "trainlog" : mix ? "mixlog" : "weightlog");
	if (losses)
		df_loss_log_text(&r->losses, path, true, out);
	if (mix) {
		df_buf_puts(out, losses ? ", \"mixture\": {" : ", ");
		DF_TRY(df_mix_log_text(&r->mix, path, true, out, err));
		df_buf_puts(out, losses ? "}" : "");
	}
	if (r->weight.n > 0) {
		df_buf_puts(out, losses || mix ? ", \"weights\": {" : ", ");
		df_weight_log_text(&r->weight, path, true, out);
		df_buf_puts(out, losses || mix ? "}" : "");
	}
	df_buf_puts(out, "}\n");
out:
	return rc;
}

int
df_run_text(const char *path, bool json, struct df_buf *out, struct df_err *err)
{
	struct df_run_logs r = DF_RUN_LOGS_INIT;
	int rc;

	DF_TRY(df_run_logs_read(&r, path, err));
	if (json) {
		DF_TRY(run_json(&r, path, out, err));
	} else {
		if (r.losses.has)
			df_loss_log_text(&r.losses, path, false, out);
		if (r.mix.n > 0)
			DF_TRY(df_mix_log_text(&r.mix, path, false, out, err));
		if (r.weight.n > 0)
			df_weight_log_text(&r.weight, path, false, out);
	}
	DF_TRY(df_buf_check(out, err));
out:
	df_run_logs_release(&r);
	return rc;
}
