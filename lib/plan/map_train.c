/*
 * map_train.c - what df-train is told, the evaluation after it, and the picture.
 */
#include <string.h>

#include "plan/plan_priv.h"

/* Is the override something that df-train looks at, and not said by the plan itself? */
static bool
is_for_train(const char *word)
{
	static const char *const ours[] = { "model_name_or_path", "tokenized_path", "eval_tokenized_path", "output_dir",
		"overwrite_output_dir" };
	char key[64];
	const size_t n = strcspn(word, ".=");
	const struct df_key *k;
	enum df_key_status s;

	if (n >= sizeof(key))
		return true;
	memcpy(key, word, n);
	key[n] = '\0';
	for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
		if (strcmp(key, ours[i]) == 0)
			return false;
	}
	k = df_key_find(key);
	s = k ? df_key_status(k, DF_OWNER_TRAIN) : DF_KEY_UNKNOWN;
	return s == DF_KEY_SUPPORTED || s == DF_KEY_CHECKED;
}

void
df_map_train_words(const struct df_map *m, struct df_plan_node *n)
{
	struct df_plan *p = m->p;
	const struct df_config *c = m->c;

	df_plan_word(p, n, "df-train");
	if (m->path)
		df_plan_word(p, n, "%s", m->path);
	for (size_t i = 0; i < m->n_words; i++) {
		if (is_for_train(m->words[i]))
			df_plan_word(p, n, "%s", m->words[i]);
	}
	if (strcmp(m->model, c->model_name_or_path) != 0 || df_config_line(c, "model_name_or_path") < 0)
		df_plan_word(p, n, "model_name_or_path=%s", m->model);
	df_plan_word(p, n, "tokenized_path=%s", m->pool);
	df_plan_in(p, n, m->pool);
	if (m->held) {
		df_plan_word(p, n, "eval_tokenized_path=%s", m->held);
		df_plan_in(p, n, m->held);
	}
	df_plan_word(p, n, "output_dir=%s", m->out);
	if (c->overwrite_output_dir)
		df_plan_word(p, n, "overwrite_output_dir=false");
}

int
df_map_train(struct df_map *m, struct df_err *err)
{
	struct df_plan_node n = { .name = "train", .about = "training, to the end" };

	df_map_train_words(m, &n);
	df_plan_out(m->p, &n, df_map_file(m, "all_results.json"));
	return df_plan_add(m->p, &n, m->settings, err);
}

int
df_map_results(struct df_map *m, struct df_err *err)
{
	struct df_plan *p = m->p;
	struct df_plan_node n = {
		.name = "eval", .about = "the loss of the final model on what was held out", .capture = true
	};
	int rc = DF_OK;

	if (m->held) {
		df_plan_words(p, &n, "df-eval", "-m", m->out, m->held, NULL);
		df_plan_after(p, &n, "train");
		df_plan_in(p, &n, m->held);
		df_plan_out(p, &n, df_map_file(m, "eval.txt"));
		DF_TRY(df_plan_add(p, &n, NULL, err));
	}
	n = (struct df_plan_node){ .name = "plot-loss", .about = "the losses as a picture" };
	df_plan_words(
	    p, &n, "df-show", "-q", "--plot", df_map_file(m, "loss.svg"), df_map_file(m, "trainer_log.jsonl"), NULL);
	df_plan_after(p, &n, "train");
	df_plan_out(p, &n, df_map_file(m, "loss.svg"));
	rc = df_plan_add(p, &n, NULL, err);
out:
	return rc;
}
