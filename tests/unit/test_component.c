/*
 * test_component.c - methods from components.yaml: where the file is found, names and parameters, overrides, and what
 * is refused, with file and line.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "config/component.h"

static const char components[] = "# a comment\n"
				 "selectors:\n"
				 "  less:\n"
				 "    name: less\n"
				 "    params:\n"
				 "      proj_dim: 4096\n"
				 "      exact: True\n"
				 "      api:\n"
				 "        local:\n"
				 "          url: http://x/y\n"
				 "          seed: null\n"
				 "      sizes: [1, 2,3]\n"
				 "  mine:\n"
				 "    params: {proj_dim: 7}\n"
				 "  bare:\n"
				 "  empty: {params: {}}\n"
				 "  null_params: {name: less, params: null}\n"
				 "  flat: 3\n"
				 "  listed: {name: x, params: [1, 2]}\n"
				 "  other: {nam: x}\n"
				 "mixers:\n"
				 "  odm: {name: odm, params: {p: [0.5, 0.5]}}\n";

static char dir[64];

static void
put(const char *name, const char *text)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	assert_int_equal(df_file_put(path, text, strlen(text), NULL), DF_OK);
}

static int
setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "df-test-component-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	put("components.yaml", components);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	return df_rmtree(dir, NULL);
}

/* The configuration DIR/a/b/x.yaml with this text, and an override. */
static void
configure(struct df_config *c, const char *text, const char *word)
{
	struct df_err err = DF_ERR_INIT;
	char all[1024], path[256];

	snprintf(path, sizeof(path), "%s/a/b", dir);
	assert_int_equal(df_mkdirs(path, NULL), DF_OK);
	snprintf(all, sizeof(all),
	    "model_name_or_path: m\noutput_dir: o\ntokenized_path: t\nupdate_step: 1\ntrain_type: dynamic_select\n%s",
	    text);
	put("a/b/x.yaml", all);
	snprintf(path, sizeof(path), "%s/a/b/x.yaml", dir);
	if (df_config_load(c, DF_OWNER_TRAIN, path, &word, word ? 1 : 0, &err) != DF_OK)
		fail_msg("%s", err.msg);
}

static const char *
param(const struct df_component *p, const char *name)
{
	for (size_t i = 0; i < p->params.n; i++)
		if (strcmp(p->params.v[i].key, name) == 0)
			return p->params.v[i].value;
	return NULL;
}

static struct df_component
loaded(const char *text, const char *word)
{
	struct df_err err = DF_ERR_INIT;
	struct df_component p;
	struct df_config c;

	configure(&c, text, word);
	if (df_component_load(&p, &c, &err) != DF_OK)
		fail_msg("%s: %s", text, err.msg);
	df_config_release(&c);
	return p;
}

/* The message has all words of the '|' list. */
static void
refused(const char *text, const char *words)
{
	struct df_err err = DF_ERR_INIT;
	struct df_component p;
	struct df_config c;
	char list[256], *save = NULL;

	configure(&c, text, NULL);
	assert_int_equal(df_component_load(&p, &c, &err), DF_ECONFIG);
	snprintf(list, sizeof(list), "%s", words);
	for (char *w = strtok_r(list, "|", &save); w; w = strtok_r(NULL, "|", &save))
		if (!strstr(err.msg, w))
			fail_msg("'%s' does not say '%s'", err.msg, w);
	df_config_release(&c);
}

static void
test_read(void **state)
{
	struct df_component p = loaded("components_cfg_file: src/flex/components.yaml\ncomponent_name: less\n", NULL);

	(void)state;
	assert_string_equal(p.name, "less");
	assert_non_null(strstr(p.path, "/components.yaml")); /* found by its last name, two directories above */
	assert_string_equal(param(&p, "proj_dim"), "4096");
	assert_string_equal(param(&p, "api.local.url"), "http://x/y");
	assert_string_equal(param(&p, "api.local.seed"), "null");
	assert_string_equal(param(&p, "sizes"), "1,2,3");
	assert_int_equal(p.params.n, 5);
	assert_int_equal(p.params.v[0].line, 6);
	df_component_release(&p);

	p = loaded(
	    "components_cfg_file: components.yaml\ncomponent_name: mine\ncomponent_params: {proj_dim: 9, x: [1, 2]}\n",
	    "component_params.api.key=no");
	assert_string_equal(p.name, "mine");             /* without a name, that of the entry */
	assert_string_equal(param(&p, "proj_dim"), "9"); /* one by one in the place of the file's */
	assert_string_equal(param(&p, "x"), "1,2");
	assert_string_equal(param(&p, "api.key"), "no");
	assert_int_equal(p.params.v[0].line, 0);
	df_component_release(&p);
	for (size_t i = 0; i < 2; i++) {
		p = loaded(i ? "components_cfg_file: components.yaml\ncomponent_name: bare\n"
			     : "components_cfg_file: components.yaml\ncomponent_name: empty\n",
		    NULL);
		assert_int_equal(p.params.n, 0);
		df_component_release(&p);
	}
	p = loaded("components_cfg_file: components.yaml\ncomponent_name: null_params\n", NULL);
	assert_string_equal(p.name, "less");
	assert_int_equal(p.params.n, 0);
	df_component_release(&p);
}

struct heard {
	char text[512];
};

static void
hear(void *ctx, enum df_log_level level, const char *msg)
{
	struct heard *h = ctx;

	if (level == DF_LOG_WARN)
		snprintf(h->text, sizeof(h->text), "%s", msg);
}

static void
test_without_file(void **state)
{
	struct heard h = { "" };
	struct df_component p = loaded("component_name: loss\n", "component_params.focus=high");

	(void)state;
	assert_null(p.path);
	assert_string_equal(p.name, "loss");
	assert_string_equal(param(&p, "focus"), "high");
	df_component_release(&p);
	df_log_set_sink(hear, &h);
	p = loaded("components_cfg_file: src/nowhere.yaml\ncomponent_name: loss\n", NULL);
	df_log_set_sink(NULL, NULL);
	assert_non_null(
	    strstr(h.text, "components_cfg_file: there is no src/nowhere.yaml: loss has its default parameters"));
	df_component_release(&p);
}

#define FILE_KEY "components_cfg_file: components.yaml\n"

static void
test_refused(void **state)
{
	(void)state;
	refused(
	    FILE_KEY "component_name: les\n", "components.yaml: selectors has no component 'les'|did you mean 'less'");
	refused(FILE_KEY "component_name: odm\n", "selectors has no component 'odm'");
	refused(FILE_KEY "component_name: flat\n", "components.yaml:18: flat: '3' is not a map");
	refused(FILE_KEY "component_name: listed\n", "components.yaml:19: params of listed: '1,2' is not a map");
	refused(FILE_KEY "component_name: other\n", "components.yaml:20: other: 'nam' is neither|'name'");
	put("bad.yaml", "selectors: {less: {name: x}\n");
	refused("components_cfg_file: bad.yaml\ncomponent_name: less\n", "bad.yaml:2");
	put("bad.yaml", "selector: {less: {name: x}}\n");
	refused("components_cfg_file: bad.yaml\ncomponent_name: less\n",
	    "bad.yaml:1: unknown section 'selector'|selectors");
	put("bad.yaml", "selectors: 3\n");
	refused("components_cfg_file: bad.yaml\ncomponent_name: less\n", "bad.yaml:1: selectors: not a map");
	put("bad.yaml", "selectors: {less: {name: a}, less: {name: b}}\n");
	refused("components_cfg_file: bad.yaml\ncomponent_name: less\n", "bad.yaml:1: less.name is given twice");
	put("bad.yaml", "- a\n");
	refused("components_cfg_file: bad.yaml\ncomponent_name: less\n", "bad.yaml:1: not a map");
	put("bad.yaml", "");
	refused("components_cfg_file: bad.yaml\ncomponent_name: less\n", "bad.yaml: selectors has no component");
}

struct values {
	int64_t proj_dim;
	double eta;
	bool exact;
	const char *name;
};

static const struct df_opt options[] = {
	{ .name = "proj-dim",
	    .type = DF_OPT_INT,
	    .value = DF_OPT_AT(struct values, proj_dim),
	    .min = 1,
	    .max = 100000 },
	{ .name = "eta", .type = DF_OPT_DOUBLE, .value = DF_OPT_AT(struct values, eta), .min = 0, .max = 10 },
	{ .name = "exact", .type = DF_OPT_FLAG, .value = DF_OPT_AT(struct values, exact) },
	{ .name = "name", .type = DF_OPT_STR, .value = DF_OPT_AT(struct values, name) },
	DF_OPT_END,
};
static const struct df_opt_alias aliases[] = { { "reweight_eta", "eta", NULL }, { "cache_dir", NULL, "no cache" },
	{ NULL, NULL, NULL } };

/* One parameter; "" is no error. */
static struct values
set(const char *word, const char *words)
{
	struct values v = { .proj_dim = 5, .eta = 0.5 };
	struct df_component p = loaded("component_name: m\n", word);
	struct df_err err = DF_ERR_INIT;
	const int rc = df_component_options(&p, &(struct df_opt_part){ options, aliases, &v }, 1, &err);

	if (rc != (*words ? DF_ECONFIG : DF_OK))
		fail_msg("%s: %d %s", word, rc, err.msg);
	if (!strstr(err.msg, words))
		fail_msg("'%s' does not say '%s'", err.msg, words);
	df_component_release(&p);
	return v;
}

static void
test_options(void **state)
{
	struct df_err err = DF_ERR_INIT;
	struct df_component p;
	struct values v;

	(void)state;
	assert_int_equal(set("component_params.proj_dim=7", "").proj_dim, 7);
	assert_true(set("component_params.reweight_eta=0.25", "").eta == 0.25);
	assert_true(set("component_params.eta=null", "").eta == 0.5);
	assert_true(set("component_params.exact=True", "").exact);
	assert_false(set("component_params.exact=no", "").exact);
	(void)set("component_params.cache_dir=x", "");
	(void)set("component_params.proj_dim=x", "component_params: proj-dim: ");
	(void)set("component_params.eta=11", "component_params: eta: ");
	(void)set("component_params.exact=3", "component_params: exact: ");
	(void)set(
	    "component_params.proj_dime=3", "component_params: m has no parameter proj_dime; did you mean proj_dim?");
	(void)set("component_params.rewait_eta=3", "did you mean reweight_eta?");
	/* a fault of the file has its line */
	v = (struct values){ 0 };
	p = loaded(FILE_KEY "component_name: less\n", NULL);
	assert_int_equal(df_component_options(&p, &(struct df_opt_part){ options, aliases, &v }, 1, &err), DF_ECONFIG);
	assert_non_null(strstr(err.msg, "components.yaml:10: less has no parameter api.local.url"));
	assert_true(v.exact && v.proj_dim == 4096);
	df_component_release(&p);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_without_file),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_options),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
