/*
 * line.c - what a mixer saw and said, as JSON.
 */
#include "mix/line.h"

#include <inttypes.h>

#include "mix/mix_priv.h"

/* A mean for each domain; null where nothing was measured. */
static void
means(struct df_buf *b, const char *name, const struct df_mix_report *r, bool excess)
{
	df_buf_printf(b, ", \"%s\": [", name);
	for (size_t i = 0; i < r->n_domains; i++) {
		const struct df_mix_sum *s = &r->sum[i];
		const double n = (double)(excess ? s->n_excess : s->n_targets);

		df_buf_puts(b, i ? ", " : "");
		if (n > 0)
			df_buf_json_double(b, (excess ? s->excess : s->nll) / n);
		else
			df_buf_puts(b, "null");
	}
	df_buf_puts(b, "]");
}

void
df_mix_put_line(struct df_buf *b, const struct df_mix_report *r)
{
	df_buf_printf(b, "{\"step\": %" PRIu64 ", \"method\": ", r->step);
	df_buf_json_str(b, r->method);
	df_buf_puts(b, ", \"domains\": [");
	for (size_t i = 0; i < r->n_domains; i++) {
		df_buf_puts(b, i ? ", " : "");
		df_buf_json_str(b, r->names ? r->names[i] : "");
	}
	df_buf_puts(b, "]");
	df_mix_log_array(b, "proportions", r->p, r->n_domains);
	if (r->sum) {
		df_buf_puts(b, ", \"n_targets\": [");
		for (size_t i = 0; i < r->n_domains; i++)
			df_buf_printf(b, "%s%" PRIu64, i ? ", " : "", r->sum[i].n_targets);
		df_buf_puts(b, "]");
		means(b, "loss", r, false);
	}
	if (r->mixer && r->mixer->weigh) {
		r->mixer->weigh(r->options, r->state, r->n_domains, r->weight);
		df_mix_log_array(b, "weights", r->weight, r->n_domains);
	}
	if (r->sum && r->excess)
		means(b, "excess", r, true);
	if (r->n_skipped)
		df_buf_printf(b, ", \"n_skipped\": %" PRIu64, *r->n_skipped);
	if (r->mixer && r->mixer->log)
		r->mixer->log(r->options, r->state, r->n_domains, b);
	df_buf_puts(b, "}\n");
}
