/*
 * df-show - look inside: what a file holds, where it comes from, one sample of it, a picture.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "prog.h"
#include "rows.h"
#include "chat/template.h"
#include "data/chosen.h"
#include "data/export.h"
#include "select/import.h"
#include "show/kin.h"
#include "show/show.h"

static const char synopsis[] = "[options] FILE...";
static const char about[] =
    "Look inside artefacts and training logs; write chosen rows as data, and lists as an index.";

/* The tasks that have options of their own. */
enum { ON_EXPORT = 1, ON_IMPORT = 2, ON_WHY = 4, ON_OTHERS = 8 };
static const char *const bys[] = { DF_PICK_BY_NAMES, NULL };
static const char *const tasks[] = { "--export", "--import", "--why", "the other tasks" };

static struct {
	const char *link, *plot, *decode, *tokenizer, *template, *why, *import, *column, *output, *dataset_dir,
	    *dataset;
	struct df_export_opts export;
	int by;
	bool json, lineage, check, skip_missing, by_given;
	struct df_prog_common common;
} cfg = { .dataset_dir = "data", .common = DF_PROG_COMMON_DEFAULT };

/* clang-format off */
static const struct df_opt options[] = {
	{ .type = DF_OPT_GROUP, .help = "What to show (a summary by default)" },
	{ .name = "lineage", .type = DF_OPT_FLAG, .value = &cfg.lineage,
	    .help = "what it was made from, as a tree" },
	{ .name = "decode", .type = DF_OPT_STR, .value = &cfg.decode, .arg = "ID",
	    .help = "the sample with this id: text, ids and targets" },
	{ .name = "tokenizer", .type = DF_OPT_STR, .value = &cfg.tokenizer, .arg = "TOK", .file = DF_FILE_READ_ANY,
	    .choices = df_tokenizer_names, .help = "for --decode, --why: bytes, or a tokenizer.json" },
	{ .name = "template", .type = DF_OPT_STR, .value = &cfg.template, .arg = "NAME", .file = DF_FILE_READ_ANY,
	    .words = df_template_names, .help = "for --decode, --why: what added tokens to it" },
	{ .name = "why", .type = DF_OPT_STR, .value = &cfg.why, .arg = "ID",
	    .help = "why an index has, or has not, the sample with this id" },
	{ .name = "check", .type = DF_OPT_FLAG, .value = &cfg.check,
	    .help = "read everything: checksums, ids, digest" },
	{ .name = "json", .type = DF_OPT_FLAG, .value = &cfg.json,
	    .help = "one line of JSON per file instead of text" },
	{ .type = DF_OPT_GROUP, .help = "What to make" },
	{ .name = "plot", .type = DF_OPT_STR, .value = &cfg.plot, .arg = "PICTURE", .file = DF_FILE_WRITE,
	    .help = "losses, mixtures, weights of runs; or a histogram" },
	{ .name = "link", .type = DF_OPT_STR, .value = &cfg.link, .arg = "FILE", .file = DF_FILE_WRITE,
	    .help = "join the files into one virtual HDF5 file" },
	{ .type = DF_OPT_GROUP, .help = "From an index to data, and back" },
	{ .name = "export", .type = DF_OPT_STR, .value = &cfg.export.path, .arg = "OUT", .file = DF_FILE_WRITE,
	    .help = "the chosen rows as .json, .jsonl, .txt or a directory" },
	{ .name = "with-scores", .type = DF_OPT_STR, .value = &cfg.export.prefix, .arg = "PREFIX", .only = ON_EXPORT,
	    .help = "add PREFIXrank and PREFIXscore to each row" },
	{ .name = "merge-info", .type = DF_OPT_FLAG, .value = &cfg.export.merge_info, .only = ON_EXPORT,
	    .help = "add to a dataset_info.json that is there" },
	{ .name = "import", .type = DF_OPT_STR, .value = &cfg.import, .arg = "LIST", .file = DF_FILE_READ,
	    .help = "make an index of what a list names: text or JSON" },
	{ .name = "by", .type = DF_OPT_CHOICE, .value = &cfg.by, .choices = bys, .given = &cfg.by_given, .only = ON_IMPORT,
	    .help = "what its entries are: ids, source rows, values" },
	{ .name = "column", .type = DF_OPT_STR, .value = &cfg.column, .arg = "NAME", .only = ON_IMPORT,
	    .help = "of the source: rows with these values (--by column)" },
	{ .name = "skip-missing", .type = DF_OPT_FLAG, .value = &cfg.skip_missing, .only = ON_IMPORT,
	    .help = "leave out entries that name no row" },
	DF_PROG_OUTPUT(&cfg.output, ON_IMPORT, "the index"),
	{ .name = "dataset-dir", .type = DF_OPT_STR, .value = &cfg.dataset_dir, .arg = "DIR", .file = DF_FILE_READ,
	    .only = ON_EXPORT | ON_IMPORT, .help = "directory of the source's dataset_info.json" },
	{ .name = "dataset", .type = DF_OPT_STR, .value = &cfg.dataset, .arg = "NAMES", .only = ON_EXPORT | ON_IMPORT,
	    .help = "rows of these datasets only, comma-separated" },
	{ .type = DF_OPT_OPERANDS, .arg = "FILE", .file = DF_FILE_READ },
	DF_PROG_OPTS(&cfg.common),
	DF_OPT_END,
};
/* clang-format on */

static int
summarise(const char *path, struct df_buf *out, struct df_err *err)
{
	struct df_summary u = DF_SUMMARY_INIT;
	struct df_set *s = NULL;
	int rc;

	if (df_is_run(path))
		return df_run_text(path, cfg.json, out, err);
	DF_TRY(df_set_open1(&s, DF_KIND_ANY, NULL, path, err));
	DF_TRY(df_summary_make(&u, s, err));
	DF_TRY(cfg.json ? df_summary_json(&u, s, out, err) : df_summary_text(&u, s, out, err));
out:
	df_summary_release(&u);
	df_set_close(s);
	return rc;
}

static int
parse_id(const char *option, const char *text, uint64_t *id, struct df_err *err)
{
	int64_t x = 0;
	const int rc = df_parse_int(text, 0, INT64_MAX, &x, err);

	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", option);
	*id = (uint64_t)x;
	return rc;
}

static int
decode(const char *path, struct df_buf *out, struct df_err *err)
{
	struct df_set *s = NULL;
	uint64_t id;
	int rc;

	DF_TRY(parse_id("--decode", cfg.decode, &id, err));
	DF_TRY(df_set_open1(&s, DF_KIND_TOKENS, NULL, path, err));
	DF_TRY(df_decode(s, id, cfg.tokenizer, cfg.template, cfg.json, out, err));
out:
	df_set_close(s);
	return rc;
}

/* The first file is the index; those after it are of its lineage. */
static int
why(const struct df_strlist *files, struct df_buf *out, struct df_err *err)
{
	uint64_t id;
	int rc;

	DF_TRY(parse_id("--why", cfg.why, &id, err));
	rc = df_why(files->v, files->n, id, cfg.tokenizer, cfg.template, cfg.json, out, err);
out:
	return rc;
}

static int
check(const char *path, struct df_buf *out, struct df_err *err)
{
	struct df_set *s = NULL;
	int rc;

	DF_TRY(df_set_open1(&s, DF_KIND_ANY, NULL, path, err));
	DF_TRY(df_set_check(s, err));
	df_buf_printf(
	    out, "%s: good, %llu rows, %s\n", df_set_name(s), (unsigned long long)df_set_rows(s), df_set_meta(s)->id);
	DF_TRY(df_buf_check(out, err));
out:
	df_set_close(s);
	return rc;
}

static int
plot(const struct df_strlist *files, struct df_err *err)
{
	struct df_picture picture = DF_PICTURE_INIT;
	struct df_set *s = NULL;
	int rc;

	if (df_is_run(files->v[0])) {
		DF_TRY(df_plot_runs(&picture, files->v, files->n, err));
	} else {
		DF_TRY(df_set_open(&s, DF_KIND_ANY, NULL, files->v, files->n, err));
		DF_TRY(df_plot_histogram(&picture, s, err));
	}
	DF_TRY(df_plot_write(&picture, cfg.plot, err));
out:
	df_picture_release(&picture);
	df_set_close(s);
	return rc;
}

static int
join(const struct df_strlist *files, struct df_err *err)
{
	struct df_set *s = NULL;
	int rc;

	DF_TRY(df_set_open(&s, DF_KIND_ANY, NULL, files->v, files->n, err));
	DF_TRY(df_set_link(s, cfg.link, err));
out:
	df_set_close(s);
	return rc;
}

/* The first file is the index, or tokens; those after it are of its lineage. */
static int export(const struct df_strlist *files, struct df_err *err)
{
	struct df_chosen chosen = DF_CHOSEN_INIT;
	struct df_set *index = NULL, *pool = NULL;
	int rc;

	DF_TRY(df_export_claim(&cfg.export, err));
	DF_TRY(df_set_open1(&index, DF_KIND_ANY, NULL, files->v[0], err));
	if (!df_kind_fits(df_set_meta(index)->kind, DF_KIND_TOKENS))
		DF_TRY(df_kin_open_pool(&pool, index, files->v, files->n, err));
	DF_TRY(df_chosen_open(&chosen, index, pool ? pool : index, cfg.dataset_dir, cfg.dataset, err));
	DF_TRY(df_export(&chosen, &cfg.export, err));
	df_prog_count(chosen.n, "rows");
out:
	df_chosen_close(&chosen);
	df_set_close(pool);
	df_set_close(index);
	return rc;
}

/* The files are the tokens that the list chooses from. */
static int
import(const struct df_strlist *files, struct df_err *err)
{
	const struct df_pick_opts o = { .list = cfg.import,
		.by = (enum df_pick_by)cfg.by,
		.column = cfg.column,
		.dataset_dir = cfg.dataset_dir,
		.datasets = cfg.dataset,
		.skip_missing = cfg.skip_missing };
	struct df_selection index = DF_SELECTION_INIT;
	struct df_set *pool = NULL;
	int rc;

	DF_TRY(df_set_open(&pool, DF_KIND_TOKENS, "tokens", files->v, files->n, err));
	DF_TRY(df_meta_set_tool(&index.meta, "df-show", err));
	DF_TRY(df_select_import(&index, pool, &o, err));
	DF_TRY(df_selection_report(&index, err));
	DF_TRY(df_selection_write(&index, cfg.output, NULL, err));
	df_prog_count(index.n_index, "rows");
out:
	df_selection_release(&index);
	df_set_close(pool);
	return rc;
}

static int
check_usage(const struct df_opt_result *args, struct df_err *err)
{
	const unsigned task = cfg.export.path ? ON_EXPORT : cfg.import ? ON_IMPORT : cfg.why ? ON_WHY : ON_OTHERS;

	if (args->operands.n == 0)
		return df_fail(err, DF_EUSAGE, "no file (try --help)");
	if (cfg.lineage + (cfg.decode != NULL) + cfg.check + (cfg.plot != NULL) + (cfg.link != NULL) +
		(cfg.export.path != NULL) + (cfg.import != NULL) + (cfg.why != NULL) >
	    1)
		return df_fail(err, DF_EUSAGE,
		    "--lineage, --decode, --check, --plot, --link, --export, --import and --why: one at a time");
	if (cfg.import && !cfg.output)
		return df_fail(err, DF_EUSAGE, "--import needs -o FILE, for the index");
	if (cfg.column)
		cfg.by = cfg.by_given ? cfg.by : DF_PICK_COLUMN;
	if ((cfg.by == DF_PICK_COLUMN) != (cfg.column != NULL))
		return df_fail(err, DF_EUSAGE, "--by column and --column NAME belong together");
	return df_opt_check_task(options, args, task, tasks, err);
}

static int
show(const struct df_strlist *files, struct df_err *err)
{
	struct df_buf out = DF_BUF_INIT;
	int rc = DF_OK;

	if (cfg.export.path)
		return export(files, err);
	if (cfg.import)
		return import(files, err);
	if (cfg.plot)
		return plot(files, err);
	if (cfg.link)
		return join(files, err);
	if (cfg.why)
		rc = why(files, &out, err);
	for (size_t i = 0; i < files->n && !cfg.why; i++) {
		const char *path = files->v[i];

		if (i > 0 && !cfg.json && !cfg.check)
			df_buf_putc(&out, '\n');
		if (cfg.lineage)
			DF_TRY(df_lineage(path, files->v, files->n, cfg.json, &out, err));
		else if (cfg.decode)
			DF_TRY(decode(path, &out, err));
		else if (cfg.check)
			DF_TRY(check(path, &out, err));
		else
			DF_TRY(summarise(path, &out, err));
	}
out:
	/* What was found out before a fault is shown all the same. */
	if (out.len > 0)
		fwrite(out.data, 1, out.len, stdout);
	df_buf_release(&out);
	return rc;
}

int
main(int argc, char **argv)
{
	const struct df_opt_result *args;
	struct df_err err = DF_ERR_INIT;
	int rc;

	df_prog_init("df-show");
	args = df_prog_parse(options, synopsis, about, &cfg.common, argc, argv);
	if ((rc = check_usage(args, &err)) == DF_OK)
		rc = show(&args->operands, &err);
	return df_prog_exit(rc, &err);
}
