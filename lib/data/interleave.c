/*
 * interleave.c - a counter per dataset, and a rule that chooses the next dataset.
 */
#include "data/interleave.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/opt.h"
#include "base/rng.h"

static int
read_probs(struct df_mixer *m, const char *probs, struct df_err *err)
{
	char *list = NULL, *save = NULL;
	double sum = 0, p;
	size_t n = 0;
	int rc = DF_OK;

	DF_TRY(df_strdup(&list, probs, err));
	DF_TRY(df_alloc(&m->until, m->n, sizeof(*m->until), "probabilities", err));
	for (char *word = strtok_r(list, ", \t", &save); word; word = strtok_r(NULL, ", \t", &save), n++) {
		if ((rc = df_parse_double(word, &p, err)) != DF_OK)
			goto out;
		if (!(p > 0 && p <= 1)) {
			rc = df_fail(err, DF_EUSAGE, "'%s': expected numbers above 0, of sum 1", word);
			goto out;
		}
		sum += p;
		if (n < m->n)
			m->until[n] = sum;
	}
	if (n != m->n)
		rc = df_fail(err, DF_EUSAGE, "%zu probabilities for %zu datasets", n, m->n);
	else if (fabs(sum - 1) > 1e-6)
		rc = df_fail(err, DF_EUSAGE, "the probabilities sum to %g, not to 1", sum);
	m->until[m->n - 1] = 1;
out:
	free(list);
	return rc;
}

int
df_mixer_init(struct df_mixer *m, enum df_mix mix, size_t n, const char *probs, uint64_t seed, struct df_err *err)
{
	int rc = DF_OK;

	*m = (struct df_mixer){ .mix = mix, .n = n, .seed = seed };
	if (probs && mix == DF_MIX_CONCAT)
		return df_fail(err, DF_EUSAGE, "probabilities are for interleaved datasets");
	DF_TRY(df_alloc(&m->length, n, sizeof(*m->length), "datasets", err));
	DF_TRY(df_alloc(&m->at, n, sizeof(*m->at), "datasets", err));
	DF_TRY(df_alloc(&m->ended, n, sizeof(*m->ended), "datasets", err));
	if (probs)
		DF_TRY(read_probs(m, probs, err));
out:
	if (rc != DF_OK)
		df_mixer_release(m);
	return rc;
}

void
df_mixer_release(struct df_mixer *m)
{
	free(m->length);
	free(m->at);
	free(m->ended);
	free(m->until);
	*m = (struct df_mixer){ .n = 0 };
}

void
df_mixer_rewind(struct df_mixer *m)
{
	m->turn = 0;
	m->n_ended = 0;
	for (size_t i = 0; i < m->n; i++) {
		m->at[i] = 0;
		m->ended[i] = m->length[i] == 0;
		m->n_ended += m->ended[i];
	}
}

/* The next dataset: the datasets take turns, or it is drawn. */
static size_t
next_turn(struct df_mixer *m)
{
	double u;
	size_t i = 0;

	if (!m->until)
		return (size_t)(m->turn++ % m->n);
	u = df_rng_uniform(m->seed, DF_RNG_INTERLEAVE, 0, m->turn++);
	while (i + 1 < m->n && u >= m->until[i])
		i++;
	return i;
}

/* When datasets take turns, a round is always finished: then each has given the same number of rows. */
static bool
is_over(const struct df_mixer *m)
{
	if (m->mix == DF_MIX_CONCAT || m->mix == DF_MIX_ONCE)
		return m->n_ended == m->n;
	if (!m->until && m->turn % m->n != 0)
		return false;
	return m->mix == DF_MIX_UNDER ? m->n_ended > 0 : m->n_ended == m->n;
}

bool
df_mixer_next(struct df_mixer *m, size_t *part, uint64_t *row)
{
	size_t i;

	if (is_over(m))
		return false;
	if (m->mix == DF_MIX_CONCAT) {
		for (i = 0; m->ended[i]; i++)
			;
	} else {
		do
			i = next_turn(m);
		while (m->mix == DF_MIX_ONCE && m->ended[i]);
	}
	*part = i;
	*row = m->at[i]++;
	if (m->at[i] == m->length[i]) {
		m->n_ended += !m->ended[i];
		m->ended[i] = true;
		m->at[i] = 0;
	}
	return true;
}
