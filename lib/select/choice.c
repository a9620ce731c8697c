/*
 * choice.c - is what a method left a choice?  Asked of a method that is not ours.
 */
#include <inttypes.h>
#include <malloc.h>
#include <math.h>

#include "select/select.h"

/* Has an array from malloc() room for n elements of `size` bytes? */
static int
check_room(const void *array, const char *what, uint64_t n, size_t size, struct df_err *err)
{
	if (array && malloc_usable_size((void *)(uintptr_t)array) / size < n)
		return df_fail(err, DF_EFORMAT, "%s has no room for %" PRIu64 " rows", what, n);
	return DF_OK;
}

static int
check_arrays(const struct df_selection *s, uint64_t n_rows, struct df_err *err)
{
	int rc = DF_OK;

	if (s->n_rows != n_rows)
		return df_fail(
		    err, DF_EFORMAT, "it changed the number of rows from %" PRIu64 " to %" PRIu64, n_rows, s->n_rows);
	if (s->n_index > 0 && !s->index)
		return df_fail(
		    err, DF_EFORMAT, "it says that it chose %" PRIu64 " rows, but there is no index", s->n_index);
	DF_TRY(check_room(s->score, "score", n_rows, sizeof(*s->score), err));
	DF_TRY(check_room(s->tie, "tie", n_rows, sizeof(*s->tie), err));
	DF_TRY(check_room(s->probability, "probability", n_rows, sizeof(*s->probability), err));
	DF_TRY(check_room(s->cluster, "cluster", n_rows, sizeof(*s->cluster), err));
	DF_TRY(check_room(s->domain, "domain", n_rows, sizeof(*s->domain), err));
	DF_TRY(check_room(s->index, "index", s->n_index, sizeof(*s->index), err));
	for (uint64_t i = 0; i < n_rows; i++) {
		if (s->domain && s->domain[i] >= s->meta.n_domains)
			return df_fail(
			    err, DF_EFORMAT, "row %" PRIu64 ": domain %u of %zu", i, s->domain[i], s->meta.n_domains);
		if (s->probability && !(s->probability[i] >= 0 && s->probability[i] <= 1))
			return df_fail(err, DF_EFORMAT, "row %" PRIu64 ": the probability %g", i, s->probability[i]);
	}
out:
	return rc;
}

static int
check_index(const struct df_select *in, uint64_t n_rows, const struct df_selection *s, struct df_err *err)
{
	for (uint64_t i = 0; i < s->n_index; i++) {
		const uint64_t id = s->index[i];

		if (id >= n_rows)
			return df_fail(err, DF_EFORMAT,
			    "position %" PRIu64 " of its index: id %" PRIu64 " is out of range: there are %" PRIu64
			    " rows",
			    i, id, n_rows);
		if (!df_select_may(in, id))
			return df_fail(err, DF_EFORMAT, "it chose row %" PRIu64 ", which --exclude names", id);
		/* What fills up need not be scored. */
		if (s->score && !isfinite(s->score[id]) && !in->allow_invalid && in->shortage != DF_SHORT_FILL)
			return df_fail(err, DF_EFORMAT, "it chose row %" PRIu64 ", whose score is not finite", id);
	}
	return DF_OK;
}

/* As many as asked for; fewer only where this was allowed. */
static int
check_amount(const struct df_select *in, uint64_t n_rows, uint64_t n, struct df_err *err)
{
	const uint64_t wanted = df_amount_of(&in->amount, n_rows);

	if (!in->amount.given || in->amount.tokens)
		return DF_OK;
	if (n > wanted || (n < wanted && in->shortage != DF_SHORT_TRUNCATE))
		return df_fail(err, DF_EFORMAT, "it chose %" PRIu64 " rows, %" PRIu64 " were asked for", n, wanted);
	return DF_OK;
}

int
df_selection_check(const struct df_select *in, uint64_t n_rows, const struct df_selection *out, struct df_err *err)
{
	int rc = DF_OK;

	DF_TRY(check_arrays(out, n_rows, err));
	DF_TRY(check_index(in, n_rows, out, err));
	DF_TRY(check_amount(in, n_rows, out->n_index, err));
out:
	return rc;
}
