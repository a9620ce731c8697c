/* fuzz_prompts.c - prompts as JSON lines. */
#include "fuzz.h"

#include "sample/prompts.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static struct df_tokenizer *tok;
	struct df_err err = DF_ERR_INIT;
	struct df_prompts p = { 0 };

	if (tok == NULL && df_tokenizer_open(&tok, "bytes", &err) != DF_OK)
		return 0;
	if (df_prompts_texts(&p, fuzz_put("x.jsonl", data, n), NULL, tok, 0, NULL, &err) == DF_OK && p.n == 0)
		__builtin_trap(); /* no prompt is an error */
	df_prompts_release(&p);
	return 0;
}
