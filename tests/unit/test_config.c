/*
 * test_config.c - the YAML keys: values, overrides, what is refused and how
 * it is said, and that df-config(5) lists exactly the table.
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
#include "base/mem.h"
#include "config/config.h"

#define NEED "model_name_or_path: m\ntokenized_path: t.h5\noutput_dir: o\n"

static char dir[64] = "df-test-config-XXXXXX";
static char path[128];
static char warning[2048], faults[32768];

static void
sink(void *ctx, enum df_log_level level, const char *msg)
{
	(void)ctx;
	if (level == DF_LOG_WARN)
		snprintf(warning, sizeof(warning), "%s", msg);
	if (level == DF_LOG_ERROR)
		snprintf(faults + strlen(faults), sizeof(faults) - strlen(faults), "%s\n", msg);
}

static int
setup(void **state)
{
	(void)state;
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/x.yaml", dir);
	df_log_set_sink(sink, NULL);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	return df_rmtree(dir, NULL);
}

static int
load_n(struct df_config *c, const char *text, size_t n, const char *word, struct df_err *err)
{
	warning[0] = 0;
	assert_int_equal(df_file_put(path, text, n, err), 0);
	return df_config_load(c, DF_OWNER_TRAIN, path, &word, word ? 1 : 0, err);
}

static int
load(struct df_config *c, const char *text, const char *word, struct df_err *err)
{
	return load_n(c, text, strlen(text), word, err);
}

/* Loads NEED, text and the override; the message must contain every word of the '|' list. */
static void
refused(const char *text, const char *word, int code, const char *words)
{
	struct df_err err = DF_ERR_INIT;
	struct df_config c;
	char all[4096], list[256], *save = NULL;
	int rc;

	snprintf(all, sizeof(all), "%s%s", NEED, text);
	if ((rc = load(&c, all, word, &err)) != code)
		fail_msg("'%s' %s: code %d, expected %d: %s", text, word ? word : "", rc, code, err.msg);
	snprintf(list, sizeof(list), "%s", words);
	for (char *w = strtok_r(list, "|", &save); w; w = strtok_r(NULL, "|", &save)) {
		if (!strstr(err.msg, w))
			fail_msg("'%s' does not say '%s'", err.msg, w);
	}
}

static void
test_defaults(void **state)
{
	struct df_err err = DF_ERR_INIT;
	struct df_config c;

	(void)state;
	if (load(&c, NEED, NULL, &err) != DF_OK)
		fail_msg("%s", err.msg);
	assert_int_equal(c.finetuning_type, DF_FINETUNING_LORA);
	assert_int_equal(c.lr_scheduler_type, DF_SCHEDULE_LINEAR);
	assert_int_equal(c.save_strategy, DF_STRATEGY_STEPS);
	assert_int_equal(c.eval_strategy, DF_STRATEGY_NO);
	assert_int_equal(c.gradient_checkpointing, DF_CHECKPOINTING_AUTO);
	assert_int_equal(c.greater_is_better, DF_BETTER_BY_NAME);
	assert_true(c.learning_rate == 5e-5 && c.adam_epsilon == 1e-8 && c.num_train_epochs == 3);
	assert_int_equal(c.seed, 42);
	assert_int_equal(c.max_steps, -1);
	assert_null(c.eval_tokenized_path);
	assert_string_equal(warning, "");
	df_config_release(&c);
}

static void
test_values(void **state)
{
	struct df_err err = DF_ERR_INIT;
	struct df_config c;
	struct df_buf place = DF_BUF_INIT;

	(void)state;
	if (load(&c,
		"# a comment\n" NEED "learning_rate: 1e-4\nlora_target: [q_proj, v_proj]\ndisable_shuffling: yes\n"
		"save_strategy: no\nlr_scheduler_type: 'cosine'\nlr_scheduler_kwargs: {num_cycles: 0.5}\n"
		"fp16: true\nbf16: true\nddp_timeout: 180000000\nreport_to: none\ndo_train: true\ndeepspeed: null\n"
		"use_dora: false\nlora_dropout: 0.0\nsave_total_limit: null\ntemplate: alpaca\npacking: No\n",
		"lr_scheduler_kwargs.num_cycles=1.5", &err) != DF_OK)
		fail_msg("%s", err.msg);
	assert_true(c.learning_rate == 1e-4); /* a string in YAML 1.1, a number to everyone else */
	assert_string_equal(c.lora_target, "q_proj,v_proj");
	assert_true(c.disable_shuffling && c.bf16);
	assert_int_equal(c.save_strategy, DF_STRATEGY_NO);
	assert_int_equal(c.lr_scheduler_type, DF_SCHEDULE_COSINE);
	assert_int_equal(c.lr_scheduler_kwargs.n, 1);
	assert_string_equal(c.lr_scheduler_kwargs.v[0].value, "1.5");
	/* one warning for all keys without effect, none for those that say nothing */
	assert_non_null(strstr(warning, "fp16, ddp_timeout (df-config(5)"));
	assert_int_equal(c.packed.n, 2);
	assert_string_equal(c.packed.v[0].value, "alpaca");
	assert_string_equal(c.packed.v[1].value, "false");
	df_config_place(&c, "learning_rate", &place);
	assert_non_null(strstr(place.data, "x.yaml:5: learning_rate"));
	df_buf_release(&place);
	df_config_release(&c);

	if (load(&c, NEED "learning_rate: 1\n", "learning_rate=2.5e-3", &err) != DF_OK)
		fail_msg("%s", err.msg);
	assert_true(c.learning_rate == 2.5e-3);
	df_config_release(&c);
}

static void
test_refused(void **state)
{
	struct df_err err = DF_ERR_INIT;
	struct df_config c;

	(void)state;
	refused("learning_rat: 1\n", NULL, DF_ECONFIG, "x.yaml:4|learning_rat|did you mean 'learning_rate'");
	refused("zzzzzzzzzzzzzzzz: 1\n", NULL, DF_ECONFIG, "unknown key|df-config(5)");
	refused("seed: 1\nseed: 2\n", NULL, DF_ECONFIG, "x.yaml:5|seed|twice");
	refused("learning_rate: fast\n", NULL, DF_ECONFIG, "x.yaml:4|learning_rate|'fast'");
	refused("learning_rate: .nan\n", NULL, DF_ECONFIG, "learning_rate");
	refused("learning_rate: [1, 2]\n", NULL, DF_ECONFIG, "learning_rate");
	refused("max_steps: 1.5\n", NULL, DF_ECONFIG, "max_steps|whole number");
	refused("warmup_ratio: 2\n", NULL, DF_ECONFIG, "warmup_ratio|outside 0 to 1");
	refused("disable_shuffling: perhaps\n", NULL, DF_ECONFIG, "disable_shuffling|true or false");
	refused("finetuning_type: oft\n", NULL, DF_ECONFIG, "finetuning_type|lora, full, freeze");
	refused("loraplus_lr_ratio: 16\nfinetuning_type: full\n", NULL, DF_ECONFIG, "loraplus_lr_ratio|lora");
	refused("gradient_checkpointing: maybe\n", NULL, DF_ECONFIG, "gradient_checkpointing|auto, true, false");
	refused("load_best_model_at_end: true\n", NULL, DF_ECONFIG, "load_best_model_at_end|eval_strategy");
	refused("early_stopping_steps: 3\n", NULL, DF_ECONFIG, "early_stopping_steps|eval_strategy");
	refused("lr_scheduler_type: reduce_lr_on_plateau\n", NULL, DF_ECONFIG, "reduce_lr_on_plateau|eval_strategy");
	refused("eval_strategy: steps\neval_tokenized_path: e\nsave_strategy: epoch\nload_best_model_at_end: true\n",
	    NULL, DF_ECONFIG, "load_best_model_at_end|epoch and steps");
	refused("greater_is_better: 3\n", NULL, DF_ECONFIG, "greater_is_better|'3'");
	refused("stage: dpo\n", NULL, DF_ECONFIG, "stage|sft, pt");
	refused("lr_scheduler_kwargs: 3\n", NULL, DF_ECONFIG, "lr_scheduler_kwargs|map");
	refused("use_dora: true\n", NULL, DF_ECONFIG, "x.yaml:4|use_dora");
	refused("lora_dropout: 1\n", NULL, DF_ECONFIG, "lora_dropout|outside");
	refused("train_type: dynamic_weight\n", NULL, DF_ECONFIG, "x.yaml|component_name|dynamic_weight");
	refused("train_type: dynamic_select\ncomponent_name: less\n", NULL, DF_ECONFIG, "update_step|at least 1");
	refused("train_type: dynamic_mix\ncomponent_name: odm\nupdate_step: 1\nmax_steps: 3\n", NULL, DF_ECONFIG,
	    "x.yaml:7|max_steps|train_step");
	refused("train_type: dynamic\n", NULL, DF_ECONFIG, "train_type|dynamic_select");
	refused("quantization_bit: 4\n", NULL, DF_ECONFIG, "quantization_bit");
	refused("train_from_scratch: true\n", NULL, DF_ECONFIG, "train_from_scratch|full");
	refused("eval_strategy: steps\n", NULL, DF_ECONFIG, "eval_tokenized_path");
	refused("num_train_epochs: 0\n", NULL, DF_ECONFIG, "num_train_epochs");
	refused("seed: &x 1\nmax_steps: *x\n", NULL, DF_ECONFIG, "x.yaml:5|aliases");
	refused("seed: *x\n", NULL, DF_ECONFIG, "x.yaml:4|aliases");
	refused("seed: !!python/object:os.system 1\n", NULL, DF_ECONFIG, "tags");
	refused("seed: [[1]]\n", NULL, DF_ECONFIG, "list inside a list");
	refused("lr_scheduler_kwargs: {a: {a: {a: {a: {a: {a: {a: {a: {a: 1}}}}}}}}}\n", NULL, DF_ECONFIG,
	    "x.yaml:4|nested");
	refused("lr_scheduler_kwargs: {a: {b: 1}, a.b: 2}\n", NULL, DF_ECONFIG, "x.yaml:4|a.b is given twice");
	refused("lr_scheduler_kwargs: {a: [[1]]}\n", NULL, DF_ECONFIG, "list inside a list");
	refused("seed: 1\n---\nseed: 2\n", NULL, DF_ECONFIG, "second document");
	refused("seed: [1\n", NULL, DF_ECONFIG, "x.yaml:");
	refused("", "seed", DF_EUSAGE, "seed|key=value");
	refused("", "seed=x", DF_ECONFIG, "seed|'x'");
	refused("", "sed=1", DF_ECONFIG, "did you mean 'seed'");
	refused("", "seed.x=1", DF_ECONFIG, "seed.x");
	assert_int_equal(load(&c, "output_dir: o\n", NULL, &err), DF_ECONFIG);
	assert_non_null(strstr(faults, "model_name_or_path is required"));
	assert_int_equal(load(&c, "- a\n- b\n", NULL, &err), DF_ECONFIG);
	assert_int_equal(load_n(&c, "seed: \"\\0\"\n", 11, NULL, &err), DF_ECONFIG);
	assert_int_equal(load_n(&c, "seed: \xff\xfe\n", 9, NULL, &err), DF_ECONFIG);
	assert_int_equal(df_config_load(&c, DF_OWNER_TRAIN, "no/such.yaml", NULL, 0, &err), DF_ENOINPUT);
}

static void
test_hostile(void **state)
{
	struct df_err err = DF_ERR_INIT;
	struct df_config c;
	size_t n = (size_t)1 << 19;
	char *text;

	(void)state;
	assert_int_equal(df_alloc(&text, 3 * n, 1, "text", &err), 0);
	memset(text, '[', n);
	memcpy(text, "seed: ", 6);
	assert_int_equal(load_n(&c, text, n, NULL, &err), DF_ECONFIG);
	memset(text, '#', 3 * n);
	assert_int_equal(load_n(&c, text, 3 * n, NULL, &err), DF_ECONFIG);
	assert_non_null(strstr(err.msg, "1 MiB"));
	free(text);
	/* every prefix of a good file is either good or refused, never worse */
	const char *good = NEED "lr_scheduler_kwargs: {a: 1, b: 'x'}\nlora_target: [a, \"b\\n\"]\nseed: 3 # end\n";
	for (size_t i = 0; i < strlen(good); i++) {
		if (load_n(&c, good, i, NULL, &err) == DF_OK)
			df_config_release(&c);
	}
}

static char *
source_file(const char *name)
{
	const char *root = getenv("DF_SRCDIR");
	struct df_err err = DF_ERR_INIT;
	char *file = NULL, *text = NULL;
	size_t n;

	assert_int_equal(df_path_join(&file, root ? root : ".", name, &err), 0);
	if (df_file_get(file, 1 << 20, &text, &n, &err) != 0)
		fail_msg("%s", err.msg);
	free(file);
	return text;
}

static const struct df_key *
row_of(const char *name)
{
	const struct df_key *k = df_keys();

	while (k->name && strcmp(k->name, name) != 0)
		k++;
	if (!k->name)
		fail_msg("df-train does not know %s", name);
	return k;
}

/* A line of a manual that goes on becomes one. */
static void
join_lines(char *text)
{
	char *to = text;

	for (const char *from = text; *from; from++) {
		if (from[0] == '\\' && from[1] == '\n')
			from++;
		else
			*to++ = *from;
	}
	*to = 0;
}

/* A choice is a word, also where YAML takes it for a bool; what checkpoints record of it is the word. */
static void
test_choices(void **state)
{
	static const struct {
		const char *text;
		enum df_strategy save;
		enum df_checkpointing checkpointing;
		enum df_better better;
		const char *json; /* what greater_is_better is recorded as */
	} cases[] = {
		{ "save_strategy: epoch\n", DF_STRATEGY_EPOCH, DF_CHECKPOINTING_AUTO, DF_BETTER_BY_NAME, "null" },
		{ "save_strategy: No\ngradient_checkpointing: on\ngreater_is_better: yes\n", DF_STRATEGY_NO,
		    DF_CHECKPOINTING_ON, DF_BETTER_GREATER, "\"true\"" },
		{ "save_strategy: 'no'\ngradient_checkpointing: 'false'\ngreater_is_better: False\n", DF_STRATEGY_NO,
		    DF_CHECKPOINTING_OFF, DF_BETTER_LESS, "\"false\"" },
		{ "save_strategy: false\ngreater_is_better: ~\n", DF_STRATEGY_NO, DF_CHECKPOINTING_AUTO,
		    DF_BETTER_BY_NAME, "null" },
	};
	struct df_err err = DF_ERR_INIT;
	struct df_config c;
	char all[512], want[64];

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct df_buf json = DF_BUF_INIT;

		snprintf(all, sizeof(all), "%s%s", NEED, cases[i].text);
		if (load(&c, all, "finetuning_type=freeze", &err) != DF_OK)
			fail_msg("%s", err.msg);
		assert_int_equal(c.save_strategy, cases[i].save);
		assert_int_equal(c.gradient_checkpointing, cases[i].checkpointing);
		assert_int_equal(c.greater_is_better, cases[i].better);
		df_config_json(&c, &json);
		snprintf(want, sizeof(want), "\"greater_is_better\": %s,", cases[i].json);
		assert_non_null(strstr(json.data, want));
		assert_non_null(strstr(json.data, "\"finetuning_type\": \"freeze\""));
		df_buf_release(&json);
		df_config_release(&c);
	}
	refused("lr_scheduler_type: step\n", NULL, DF_ECONFIG, "lr_scheduler_type|'step' is none of constant");
	refused("finetuning_type:\n", NULL, DF_ECONFIG, "finetuning_type|'null' is none of");
	refused("finetuning_type: yes\n", NULL, DF_ECONFIG, "finetuning_type|'yes' is none of");
	refused("finetuning_type: loar\n", NULL, DF_ECONFIG, "did you mean 'lora'");
	refused("eval_strategy: best\n", NULL, DF_ECONFIG, "eval_strategy|no, steps, epoch");
	refused("stage: {a: sft}\n", NULL, DF_ECONFIG, "stage|single value");
}

/* The rows hold together: what the program that reads a key looks at is there. */
static void
test_rows(void **state)
{
	const struct df_key *k = df_keys();

	(void)state;
	for (; k->name; k++) {
		const bool train = k->owners & DF_OWNER_TRAIN, export = k->owners & DF_OWNER_EXPORT;

		if (!k->dflt || !k->help || (k->type == DF_KEY_CHOICE) != (k->choices != NULL))
			fail_msg("%s: the row is not whole", k->name);
		if (df_key_status(k, DF_OWNER_TRAIN) == DF_KEY_UNKNOWN || (train && k->in_train))
			fail_msg("%s: df-train has no use for it, or two", k->name);
		if ((k->in_export == DF_KEY_REJECTED) != (k->no_export != NULL) || (export && k->in_export))
			fail_msg("%s: df-merge has no reason, or two uses", k->name);
		if (k->option && !(k->owners & (DF_OWNER_PACK | DF_OWNER_EXPORT)))
			fail_msg("%s: nobody has the option --%s", k->name, k->option);
		if (k->in_train == DF_KEY_CHECKED && k->owners != DF_OWNER_PACK)
			fail_msg("%s: compared with the tokens, but not of df-pack", k->name);
		if ((k->shapes && !train) || (k->neutral && train) ||
		    (k->null_is_value && k->in_train != DF_KEY_CHECKED))
			fail_msg("%s: says what nobody reads", k->name);
	}
	assert_int_equal(k - df_keys(), df_keys_count());
	/* DataFlex's keys are df-train's and df-plan's, and recorded in checkpoints of dynamic runs only */
	for (k = df_keys(); k->name; k++) {
		if ((k->owners & DF_OWNER_PLAN) && (!(k->owners & DF_OWNER_TRAIN) || k->shapes))
			fail_msg("%s: not a key of dynamic runs", k->name);
		if (k->dynamic && !(k->owners & DF_OWNER_PLAN))
			fail_msg("%s: df-plan does not know it", k->name);
	}
}

static int
load_export(struct df_config *c, const char *text, struct df_err *err)
{
	warning[0] = faults[0] = 0;
	assert_int_equal(df_file_put(path, text, strlen(text), err), 0);
	return df_config_load(c, DF_OWNER_EXPORT, path, NULL, 0, err);
}

/* df-merge's view: its own keys have values, those of inference are passed over, what would change the model is not. */
static void
test_export(void **state)
{
	static const char *const refused_there[] = { "quantization_bit: 4", "resize_vocab: true", "adapter_folder: a",
		"export_quantization_bit: 4", "export_quantization_dataset: c4.json", "export_legacy_format: true",
		"export_hub_model_id: me/mine" };
	struct df_err err = DF_ERR_INIT;
	struct df_config c;
	char want[256];

	(void)state;
	if (load_export(&c,
		"model_name_or_path: m\nadapter_name_or_path: a\ntemplate: llama3\ntrust_remote_code: true\n"
		"finetuning_type: oft\nstage: dpo\nexport_dir: d\nexport_size: 0.5\nexport_device: auto\n"
		"export_legacy_format: false\nquantization_bit: null\nresize_vocab: off\nadapter_folder:\n"
		"infer_dtype: bfloat16\ninfer_backend: vllm\nflash_attn: fa2\nmodel_revision: v2\n",
		&err) != DF_OK)
		fail_msg("%s", err.msg);
	assert_string_equal(c.model_name_or_path, "m");
	assert_string_equal(c.adapter_name_or_path, "a");
	assert_string_equal(c.export_dir, "d");
	assert_true(c.export_size == 0.5);
	assert_int_equal(c.infer_dtype, DF_INFER_BFLOAT16);
	assert_string_equal(warning, "");
	assert_int_equal(c.packed.n, 0);
	df_config_release(&c);

	if (load_export(&c, "model_name_or_path: m\n", &err) != DF_OK)
		fail_msg("%s", err.msg);
	assert_true(c.export_size == 5 && c.infer_dtype == DF_INFER_AUTO);
	assert_null(c.adapter_name_or_path);
	assert_null(c.export_dir);
	df_config_release(&c);

	for (size_t i = 0; i < sizeof(refused_there) / sizeof(refused_there[0]); i++) {
		const size_t n = strcspn(refused_there[i], ":");

		assert_int_equal(load_export(&c, refused_there[i], &err), DF_ECONFIG);
		snprintf(want, sizeof(want), "%s:1: %.*s: ", path, (int)n, refused_there[i]);
		assert_memory_equal(err.msg, want, strlen(want));
		assert_null(strstr(err.msg, "df-merge"));
	}
	/* a key of training is none of an export, and a wrong word is corrected by one that is */
	assert_int_equal(
	    load_export(&c, "lora_rank: 8\nexport_siz: 5\nexport_size: 0\ninfer_dtype: int8\n", &err), DF_ECONFIG);
	snprintf(want, sizeof(want), "%s:1: unknown key 'lora_rank'; df-merge(1) lists the keys of an export\n", path);
	assert_memory_equal(faults, want, strlen(want));
	assert_non_null(strstr(faults, "x.yaml:2: unknown key 'export_siz'; did you mean 'export_size'?"));
	assert_non_null(strstr(faults, "x.yaml:3: export_size: 0 is outside"));
	assert_non_null(strstr(faults, "x.yaml:4: infer_dtype: 'int8' is none of auto, float32, bfloat16, float16"));
	/* df-train looks at none of them */
	if (load(&c, NEED "export_dir: d\nexport_size: 3\nexport_legacy_format: true\ninfer_dtype: int8\n", NULL,
		&err) != DF_OK)
		fail_msg("%s", err.msg);
	assert_non_null(
	    strstr(warning, "no effect here: export_dir, export_size, export_legacy_format, infer_dtype (df-config"));
	assert_null(c.export_dir);
	df_config_release(&c);
}

/* The items of df-merge(1) are the keys of its view: its own, those without effect, those that are rejected. */
static void
test_manual_export(void **state)
{
	static const enum df_key_status order[] = { DF_KEY_SUPPORTED, DF_KEY_IGNORED, DF_KEY_REJECTED };
	char *text = source_file("man/df-merge.1"), *save = NULL;
	size_t n_items = 0, n_words = 0;

	(void)state;
	join_lines(text);
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *words = NULL;

		if (strncmp(line, ".It Ic ", 7) != 0)
			continue;
		assert_true(n_items < sizeof(order) / sizeof(order[0]));
		for (char *w = strtok_r(line + 7, " ,", &words); w; w = strtok_r(NULL, " ,", &words)) {
			if (df_key_status(row_of(w), DF_OWNER_EXPORT) != order[n_items])
				fail_msg("df-merge.1 has %s in the wrong place", w);
			n_words++;
		}
		n_items++;
	}
	for (const struct df_key *k = df_keys(); k->name; k++)
		n_words -= df_key_status(k, DF_OWNER_EXPORT) != DF_KEY_UNKNOWN;
	assert_int_equal(n_words, 0);
	free(text);
}

/* Everything that is wrong is said at once, in the order of the file and of the command line, each with its place. */
static void
test_faults(void **state)
{
	static const char *const words[] = { "sed=3", "use_galore=true", "warmup_ratio", "max_steps=-7" };
	static const char bad[] = NEED "learning_rat: 1\n\nuse_dora: true\nseed: x\nlr_scheduler_kwargs: 3\n";
	struct df_err err = DF_ERR_INIT;
	struct df_config c;
	char want[2048], text[4096];

	(void)state;
	warning[0] = faults[0] = 0;
	assert_int_equal(df_file_put(path, bad, strlen(bad), &err), 0);
	assert_int_equal(df_config_load(&c, DF_OWNER_TRAIN, path, words, 4, &err), DF_ECONFIG);
	snprintf(want, sizeof(want),
	    "%s:4: unknown key 'learning_rat'; did you mean 'learning_rate'?\n"
	    "%s:6: use_dora: not implemented\n"
	    "%s:7: seed: 'x' is not a whole number\n"
	    "%s:8: lr_scheduler_kwargs: '3' is not a map\n"
	    "command line: unknown key 'sed'; did you mean 'seed'?\n"
	    "command line: use_galore: AdamW is the only optimizer\n"
	    "command line: 'warmup_ratio': expected key=value\n"
	    "command line: max_steps: -7 is outside -1 to 1e+15\n",
	    path, path, path, path);
	assert_string_equal(faults, want);
	snprintf(want, sizeof(want), "%s: 8 faults: nothing is done", path);
	assert_string_equal(err.msg, want);
	assert_string_equal(warning, "");

	/* what more than one key says, too; a key that stands in the file has its line */
	faults[0] = 0;
	snprintf(text, sizeof(text),
	    "model_name_or_path: m\noutput_dir: ''\ntrain_from_scratch: true\nsave_strategy: best\n");
	assert_int_equal(load(&c, text, "use_dft_loss=true", &err), DF_ECONFIG);
	assert_non_null(strstr(faults, "x.yaml:2: output_dir is required"));
	assert_non_null(strstr(faults, "x.yaml: tokenized_path is required"));
	assert_non_null(strstr(faults, "x.yaml:3: train_from_scratch needs"));
	assert_non_null(strstr(faults, "x.yaml:4: save_strategy: best needs eval_strategy"));
	assert_non_null(strstr(err.msg, "4 faults"));

	/* of a file that is no configuration only the first hundred; a fault of YAML itself is the last */
	faults[0] = 0;
	text[0] = 0;
	for (int i = 0; i < 150; i++)
		snprintf(text + strlen(text), sizeof(text) - strlen(text), "x%d: 1\n", i);
	assert_int_equal(load(&c, text, NULL, &err), DF_ECONFIG);
	assert_non_null(strstr(err.msg, "100 faults or more"));
	assert_non_null(strstr(faults, "x.yaml:100: unknown key 'x99'"));
	assert_null(strstr(faults, "x.yaml:101: "));
	faults[0] = 0;
	assert_int_equal(load(&c, NEED "sede: 1\nseed: [1\n", NULL, &err), DF_ECONFIG);
	assert_non_null(strstr(faults, "x.yaml:4: unknown key 'sede'"));
	assert_non_null(strstr(err.msg, "2 faults"));
}

/* What asks for nothing is neither an error nor worth a warning. */
static void
test_neutral(void **state)
{
	static const char *const neutral[] = { "use_unsloth: false", "use_unsloth:", "use_kv_cache: yes",
		"ignore_pad_token_for_loss: true", "fsdp: ''", "fsdp: []", "debug: \"\"", "accelerator_config: {}",
		"resources_per_worker: {GPU: 1}", "galore_rank: 16", "galore_rank: 16.0", "video_fps: 2",
		"model_revision: main", "report_to: none", "report_to: [none]", "optim: adamw_hf", "push_to_hub: No",
		"flash_attn: disabled", "per_gpu_train_batch_size: ~", "past_index: -1" };
	static const char *const other[] = { "use_unsloth: true", "use_kv_cache: false", "fsdp: [full_shard]",
		"accelerator_config: {split_batches: true}", "resources_per_worker: {GPU: 2}", "galore_rank: 17",
		"model_revision: v2", "report_to: wandb", "group_by_length: true" };
	struct df_err err = DF_ERR_INIT;
	struct df_config c;
	char all[512];

	(void)state;
	for (size_t i = 0; i < sizeof(neutral) / sizeof(neutral[0]); i++) {
		snprintf(all, sizeof(all), "%s%s\n", NEED, neutral[i]);
		if (load(&c, all, NULL, &err) != DF_OK)
			fail_msg("%s", err.msg);
		assert_string_equal(warning, "");
		df_config_release(&c);
	}
	for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
		snprintf(all, sizeof(all), "%s%s\n", NEED, other[i]);
		if (load(&c, all, NULL, &err) != DF_OK)
			fail_msg("%s", err.msg);
		assert_non_null(strstr(warning, "no effect here: "));
		df_config_release(&c);
	}
	if (load(&c, NEED, "gradient_checkpointing_kwargs.use_reentrant=false", &err) != DF_OK)
		fail_msg("%s", err.msg);
	assert_non_null(strstr(warning, "no effect here: gradient_checkpointing_kwargs"));
	df_config_release(&c);
	refused("ignore_pad_token_for_loss: false\n", NULL, DF_ECONFIG, "x.yaml:4|ignore_pad_token_for_loss|padding");
	refused("per_gpu_train_batch_size: 4\n", NULL, DF_ECONFIG, "x.yaml:4|old name of per_device_train_batch_size");
	refused("batch_size: 4\n", NULL, DF_ECONFIG, "x.yaml:4|batch_size|per_device_train_batch_size");
	refused("optim: lion\n", NULL, DF_ECONFIG, "optim|AdamW");
	refused("fsdp: {a: 1}\nadafactor: on\n", NULL, DF_ECONFIG, "x.yaml:5|adafactor");
}

/* Each argument of LLaMA-Factory is known, and its neutral value does nothing (tests/golden/llamafactory_keys.py). */
static void
test_vocabulary(void **state)
{
	static const char *const states[] = { "unknown", "supported", "checked", "ignored", "rejected" };
	char *text = source_file("tests/golden/llamafactory_keys.txt"), *save = NULL, all[512];
	const char *state_of;
	struct df_err err = DF_ERR_INIT;
	struct df_config c;
	size_t n = 0;

	(void)state;
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *cells = NULL, *name = strtok_r(line, "\t", &cells), *value = strtok_r(NULL, "\t", &cells);

		if (name[0] == '#')
			continue;
		n++;
		state_of = states[df_key_status(row_of(name), DF_OWNER_TRAIN)];
		assert_memory_equal(cells, state_of, strlen(state_of));
		if (strstr(NEED, name))
			continue;
		snprintf(all, sizeof(all), "%s%s: %s\n", NEED, name, value);
		if (load(&c, all, NULL, &err) != DF_OK)
			fail_msg("%s", err.msg);
		assert_string_equal(warning, "");
		df_config_release(&c);
	}
	assert_int_equal(n, 354 + 7);
	free(text);
}

/* The lines `.It Ic KEY ...` of the manual are the rows of the table: of each state in their order, with defaults. */
static void
test_manual(void **state)
{
	const struct df_key *next[DF_KEY_REJECTED + 1];
	char *text = source_file("man/df-config.5"), *save = NULL, want[256];

	(void)state;
	join_lines(text);
	for (int s = 0; s <= DF_KEY_REJECTED; s++)
		next[s] = df_keys();
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char whole[1024], *words = NULL;

		if (strncmp(line, ".It Ic ", 7) != 0)
			continue;
		snprintf(whole, sizeof(whole), "%s", line);
		for (char *w = strtok_r(line + 7, " ,", &words); w; w = strtok_r(NULL, " ,", &words)) {
			const struct df_key *k = row_of(w);
			const enum df_key_status status = df_key_status(k, DF_OWNER_TRAIN);
			const struct df_key **at = &next[status];

			while ((*at)->name && df_key_status(*at, DF_OWNER_TRAIN) != status)
				(*at)++;
			if (!(*at)->name || strcmp((*at)->name, w) != 0)
				fail_msg("df-config.5 has %s where %s is expected", w, (*at)->name);
			(*at)++;
			if (status != DF_KEY_SUPPORTED)
				continue;
			snprintf(want, sizeof(want), ".It Ic %s Pq Cm %s", k->name, k->dflt);
			assert_string_equal(whole, want);
			break;
		}
	}
	for (int s = 0; s <= DF_KEY_REJECTED; s++) {
		for (; next[s]->name; next[s]++) {
			if ((int)df_key_status(next[s], DF_OWNER_TRAIN) == s)
				fail_msg("df-config.5 does not list %s", next[s]->name);
		}
	}
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_values),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_neutral),
		cmocka_unit_test(test_choices),
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_export),
		cmocka_unit_test(test_vocabulary),
		cmocka_unit_test(test_manual),
		cmocka_unit_test(test_manual_export),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
