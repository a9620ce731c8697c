/*
 * words.c - what Python's re takes for a word character: a letter, a number of any kind, or the underscore.  Marks are
 * neither words nor spaces, so they are punctuation there; so it is in NLTK's WordPunctTokenizer.
 */
#include "token/words.h"

#include "token/token_priv.h"

enum class { SPACE, WORD, OTHER };

static enum class class_of(uint32_t c) {
	const uint8_t cat = df_uc_category[c];

	/* str.isspace() knows four separators of ASCII that are not White_Space. */
	if ((df_uc_table[c] & DF_UC_SPACE) || (c >= 0x1C && c <= 0x1F)) return SPACE;
	return c == '_' || (cat >= UC_LU && cat <= UC_LO) || (cat >= UC_ND && cat <= UC_NO) ? WORD : OTHER;
}

bool
df_word_next(const char *text, size_t n, size_t *at, size_t *len)
{
	const unsigned char *s = (const unsigned char *)text;
	enum class first = SPACE;
	size_t size;

	df_uc_init();
	for (; *at < n; *at += size)
		if ((first = class_of(df_uc_get(s + *at, &size))) != SPACE)
			break;
	for (*len = 0; *at + *len < n; *len += size)
		if (class_of(df_uc_get(s + *at + *len, &size)) != first)
			break;
	return *len > 0;
}
