/*
 * meter.c - counts, rates and times for people.
 */
#include "base/meter.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* 75 s as "1:15", 2 h as "2:00:00". */
static void
put_clock(char out[32], double secs)
{
	const uint64_t s = secs < 1e9 ? (uint64_t)(secs + 0.5) : 999999999;

	if (s >= 3600)
		snprintf(out, 32, "%" PRIu64 ":%02d:%02d", s / 3600, (int)(s / 60 % 60), (int)(s % 60));
	else
		snprintf(out, 32, "%d:%02d", (int)(s / 60), (int)(s % 60));
}

void
df_meter_rate(char out[32], double rate)
{
	snprintf(out, 32, "%.*f/s", rate >= 100 ? 0 : rate >= 10 ? 1 : 2, rate);
}

bool
df_meter_line(struct df_meter *m, double now, double every, uint64_t done, uint64_t total, const char *unit, char *line,
    size_t size)
{
	char rate_text[32], left[32], part[64] = "";
	double rate;

	if (m->unit == NULL || strcmp(m->unit, unit) != 0 || done < m->done) {
		*m = (struct df_meter){ .unit = unit, .began = now, .last = now, .first = done, .done = done };
		return false;
	}
	m->done = done;
	if (now - m->last < every)
		return false;
	m->last = now;
	rate = (double)(done - m->first) / (now - m->began);
	df_meter_rate(rate_text, rate);
	if (total > 0 && rate > 0) {
		put_clock(left, total > done ? (double)(total - done) / rate : 0);
		snprintf(part, sizeof(part), " (%.0f %%), %s left", 100.0 * (double)done / (double)total, left);
	}
	if (total > 0)
		snprintf(line, size, "%" PRIu64 "/%" PRIu64 " %s, %s%s", done, total, unit, rate_text, part);
	else
		snprintf(line, size, "%" PRIu64 " %s, %s", done, unit, rate_text);
	return true;
}
