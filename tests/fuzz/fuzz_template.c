/* fuzz_template.c - a template file; what is accepted must encode a conversation. */
#include <string.h>

#include "fuzz.h"
#include "chat/encode.h"
#include "chat/template.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct df_encode_opts opts = { .stage = DF_STAGE_SFT, .cutoff_len = 64 };
	struct df_turn turns[] = { { DF_ROLE_USER, "hello", 5 }, { DF_ROLE_ASSISTANT, "<think>\nx", 9 } };
	struct df_example ex = DF_EXAMPLE_INIT;
	struct df_encoded out = DF_ENCODED_INIT;
	struct df_err err = DF_ERR_INIT;
	const struct df_template *t = NULL;
	struct df_tokenizer *tok = NULL;
	struct df_encoder *e = NULL;
	struct df_encscratch *s = NULL;
	struct df_encode_info info;
	int rc;

	if (df_template_load(&t, fuzz_put("template.yaml", data, n), &err) != DF_OK)
		return 0;
	rc = df_tokenizer_open(&tok, "bytes", &err);
	if (rc == DF_OK)
		rc = df_encoder_new(&e, t, tok, &opts, &err);
	if (rc == DF_OK)
		rc = df_encscratch_new(&s, e, &err);
	ex.turns = turns;
	ex.n_turns = 2;
	ex.system = "be brief";
	ex.n_system = 8;
	if (rc == DF_OK)
		rc = df_encode(e, s, &ex, &out, &info, &err);
	df_encoded_release(&out);
	df_encscratch_free(s);
	df_encoder_free(e);
	df_tokenizer_free(tok);
	df_template_close(t);
	return 0;
}
