/*
 * plugin.c - a method of the user's own: loaded, and not believed.
 */
#include "select/plugin.h"

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"

/* ---- the record --------------------------------------------------------------------------- */

/* A word for the command line: letters, digits and dashes. */
static bool
is_word(const char *s)
{
	if (!s || !isalpha((unsigned char)*s))
		return false;
	while (*s && (isalnum((unsigned char)*s) || *s == '-' || *s == '_'))
		s++;
	return *s == '\0';
}

static int
check_inputs(const struct df_selector *m, struct df_err *err)
{
	if (m->n_inputs < 1 || m->n_inputs > DF_SELECT_INPUTS || !m->inputs)
		return df_fail(err, DF_EFORMAT, "%zu inputs, there must be 1 to %d", m->n_inputs, DF_SELECT_INPUTS);
	for (size_t i = 0; i < m->n_inputs; i++) {
		const struct df_select_input *in = &m->inputs[i];

		if (!is_word(in->role) || !in->name || !in->help || (unsigned)in->kind >= DF_KIND_COUNT ||
		    (in->n_columns > 0 && !in->columns))
			return df_fail(
			    err, DF_EFORMAT, "input %zu: role, name, help, kind or columns are missing or wrong", i);
		for (size_t c = 0; c < in->n_columns; c++)
			if ((unsigned)in->columns[c] >= DF_COL_COUNT)
				return df_fail(err, DF_EFORMAT, "input '%s': there is no column %d", in->role,
				    (int)in->columns[c]);
	}
	if (strcmp(m->inputs[0].role, "train") != 0)
		return df_fail(err, DF_EFORMAT, "the first input is '%s', it must be 'train'", m->inputs[0].role);
	return DF_OK;
}

static size_t
size_of_option(enum df_opt_type t)
{
	switch (t) {
	case DF_OPT_FLAG: return sizeof(bool);
	case DF_OPT_STR: return sizeof(char *);
	case DF_OPT_INT: return sizeof(int64_t);
	case DF_OPT_DOUBLE: return sizeof(double);
	case DF_OPT_CHOICE: return sizeof(int);
	case DF_OPT_LIST: return sizeof(struct df_strlist);
	case DF_OPT_COUNT:
	case DF_OPT_SHARD:
	case DF_OPT_GROUP:
	case DF_OPT_OPERANDS:
	case DF_OPT_ELSEWHERE: break;
	}
	return 0;
}

static int
check_options(const struct df_selector *m, struct df_err *err)
{
	for (const struct df_opt *o = m->options; o && o->name; o++) {
		const size_t size = size_of_option(o->type);

		if (!is_word(o->name) || !size || !o->help || (o->type == DF_OPT_CHOICE && !o->choices))
			return df_fail(err, DF_EFORMAT, "option %zu: name, type, help or choices are missing or wrong",
			    (size_t)(o - m->options));
		if (!m->defaults || m->defaults_size < size || (uintptr_t)o->value > m->defaults_size - size)
			return df_fail(
			    err, DF_EFORMAT, "option '%s': its value is not in the struct of defaults", o->name);
	}
	return DF_OK;
}

static int
check_record(const struct df_selector *m, struct df_err *err)
{
	struct df_err ignored = DF_ERR_INIT;
	const struct df_selector *ours;
	int rc = DF_OK;

	if (!m || !is_word(m->name))
		return df_fail(err, DF_EFORMAT, "its method has no name, or one that is no word");
	if (df_selector_find(&ours, m->name, &ignored) == DF_OK)
		return df_fail(err, DF_EFORMAT, "its method is called '%s', as one of df-score's own", m->name);
	if (!m->about || !m->model || !m->cost || !m->run)
		rc = df_fail(err, DF_EFORMAT, "about, model, cost or run is missing");
	else if (m->shortage <= DF_SHORT_DEFAULT || m->shortage > DF_SHORT_FILL ||
	    (m->shortage == DF_SHORT_FILL && !m->fill))
		rc = df_fail(err, DF_EFORMAT, "shortage must say what happens when there are too few rows");
	else if ((rc = check_inputs(m, err)) == DF_OK)
		rc = check_options(m, err);
	if (rc != DF_OK)
		df_err_prefix(err, "method '%s': ", m->name);
	return rc;
}

static int
check_sizes(const struct df_plugin *p, struct df_err *err)
{
	const struct df_plugin ours = { DF_PLUGIN_SIZES, NULL };

	if (p->abi != ours.abi)
		return df_fail(err, DF_EFORMAT,
		    "it was compiled for version %" PRIu32 " of plug-ins, this is version %" PRIu32
		    ": compile it again with these headers",
		    p->abi, ours.abi);
	if (p->selector != ours.selector || p->input != ours.input || p->select != ours.select ||
	    p->selection != ours.selection || p->meta != ours.meta || p->opt != ours.opt || p->scan != ours.scan ||
	    p->err != ours.err)
		return df_fail(err, DF_EFORMAT,
		    "it was compiled with the headers of another df-tools: compile it again with these");
	return DF_OK;
}

int
df_plugin_load(const struct df_selector **out, const char *path, struct df_err *err)
{
	const struct df_plugin *p;
	char *full = NULL;
	bool there = false;
	void *library;
	int rc = DF_OK;

	if ((rc = df_file_probe(path, &there, err)) != DF_OK)
		return rc;
	errno = ENOENT;
	if (!there)
		return df_fail(err, DF_ENOINPUT, "%s:", path);
	/* A name without a directory is a file here, not a library of the system. */
	DF_TRY(df_asprintf(&full, err, "%s%s", strchr(path, '/') ? "" : "./", path));
	library = dlopen(full, RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		rc = df_fail(err, DF_EFORMAT, "it cannot be loaded: %s", dlerror());
		goto out;
	}
	p = dlsym(library, "df_plugin");
	if (!p) {
		rc = df_fail(err, DF_EFORMAT, "it is no plug-in: DF_PLUGIN() of select/plugin.h is missing");
		goto out;
	}
	DF_TRY(check_sizes(p, err));
	DF_TRY(check_record(p->method, err));
	*out = p->method;
out:
	if (rc != DF_OK)
		df_err_prefix(err, "%s: ", path);
	free(full);
	return rc;
}
