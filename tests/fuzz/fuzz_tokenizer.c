/* fuzz_tokenizer.c - tokenizer.json; what is accepted must encode and decode. */
#include <string.h>

#include "base/buf.h"
#include "fuzz.h"
#include "token/tokenizer.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char text[] = "Hello  wORLD's 1234\r\n\t\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80 <s> aaaaaaaa";
	struct df_err err = DF_ERR_INIT;
	struct df_tokenizer *t = NULL;
	struct df_tokscratch *s = NULL;
	struct df_ids ids = { NULL, 0, 0 };
	struct df_buf out = DF_BUF_INIT;
	int rc;

	fuzz_put("tokenizer.json", data, n);
	rc = df_tokenizer_open(&t, fuzz_dir(), &err);
	if (rc == DF_OK)
		rc = df_tokscratch_new(&s, t, &err);
	if (rc == DF_OK)
		rc = df_tokenizer_encode(t, s, text, strlen(text), false, &ids, &err);
	/* Its own ids: but a decoder may be of a kind that is not known, or its regex give up. */
	if (rc == DF_OK && df_tokenizer_decode(t, ids.v, ids.n, &out, &err) == DF_ERANGE && strstr(err.msg, "no id"))
		__builtin_trap();
	ids.n = 0;
	if (rc == DF_OK && df_tokenizer_encode_framed(t, s, text, strlen(text), 16, &ids, NULL, &err) == DF_OK &&
	    ids.n > 16)
		__builtin_trap();
	df_buf_release(&out);
	df_ids_release(&ids);
	df_tokscratch_free(s);
	df_tokenizer_free(t);
	return 0;
}
