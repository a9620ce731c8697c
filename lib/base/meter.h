/*
 * meter.h - how far a job is, as one line for people: "120/400 rows, 15.8/s (30 %), 0:18 left".
 *
 * Thread rule: a meter belongs to one thread at a time.
 */
#ifndef DF_BASE_METER_H
#define DF_BASE_METER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct df_meter {
	const char *unit;   /* NULL: nothing was counted yet; borrowed from the latest call */
	double began, last; /* seconds: when this phase began, and when it had its latest line */
	uint64_t first, done;
};

/*
 * At `now` seconds of any clock, `done` of `total` (0: not known) units are done.  true, and their line, when the
 * latest one is `every` seconds old.  A new unit, or a count that went back, is a new phase with a rate of its own.
 */
bool df_meter_line(struct df_meter *m, double now, double every, uint64_t done, uint64_t total, const char *unit,
    char *line, size_t size);

/* 0.53/s, 15.8/s, 1580/s: three digits say all there is to say about a rate. */
void df_meter_rate(char out[32], double rate);

#endif
