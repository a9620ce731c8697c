/* fuzz_rewards.c - rewards as JSON lines or text, and completions to be compared. */
#include "fuzz.h"

#include <math.h>

#include "eval/match.h"
#include "grad/rewards.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const uint64_t id[] = { 0, 1, 2, 3 }, prompt[] = { 7, 7, 9, 9 };
	static const uint32_t draw[] = { 0, 1, 0, 1 };
	const struct df_reward_rows rows = { "draws.h5", 4, id, prompt, draw, NULL, n % 2 };
	const char *path = fuzz_put("rewards", data, n);
	struct df_match_scores scores;
	struct df_err err = DF_ERR_INIT;
	struct df_meta meta = DF_META_INIT;
	struct df_prompts domains = { 0 };
	double reward[4] = { 0 };

	if (df_rewards_read(path, "rewards", &rows, reward, &meta, &err) == DF_OK)
		for (int i = 0; i < 4; i++)
			if (!isfinite(reward[i]))
				__builtin_trap(); /* such a reward is an error */
	if (df_match_lines(&scores, &domains, path, (enum df_match)(n % DF_MATCH_COUNT), NULL, NULL, &err) == DF_OK) {
		if (scores.all.n == 0 || scores.all.right > scores.all.n)
			__builtin_trap();
		df_match_scores_release(&scores);
	}
	df_prompts_release(&domains);
	df_meta_release(&meta);
	return 0;
}
