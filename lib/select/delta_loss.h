/*
 * delta_loss.h - the window of delta-loss, which slides over the rows in order of how much they improved.
 */
#ifndef DF_SELECT_DELTA_LOSS_H
#define DF_SELECT_DELTA_LOSS_H

#include <stdbool.h>
#include <stdint.h>

struct df_delta_window {
	double width;     /* fraction of all rows, 0 to 1 */
	double steepness; /* of the sigmoid by which it slides: k */
	uint64_t ordinal; /* which selection of its epoch this is, from 1 */
	uint64_t times;   /* selections of an epoch: T */
	bool shift;       /* slide left to what improved, with the same width, instead of cutting there */
};

/*
 * Positions [*start, *end) of n valid rows, best first, of which the first n_improved did not get worse.  Empty: *start
 * = *end.  (DataFlex, delta_loss_selector.py, calculate_window_position; with one selection in an epoch the window is
 * where the first one has it, and it never goes beyond that of the last.)
 */
void df_delta_window(
    const struct df_delta_window *w, uint64_t n, uint64_t n_improved, uint64_t *start, uint64_t *end);

#endif
