/*
 * shard.h - artefacts: the files (and streams) that the programs pass on.
 *
 * An artefact is a plain HDF5 file of one *kind*: a few columns with one entry per row, and root attributes that
 * say how it was made, and from which inputs.  The library knows the columns (df_column); callers pass and receive
 * *batches*: some consecutive rows of all columns, as plain arrays.
 *
 * A *set* is what a tool reads: one file, the shards of one (name.00003-of-00016.h5, in any order), a directory, a
 * glob, or "-" (a stream or file on standard input).  It is read as one long artefact.
 *
 * A *stream* is what a pipe carries: length-prefixed HDF5 images of one batch
 * each, closed by an end record, so that a broken pipe is "truncated" and
 * never "done".  df-shard(5) describes both.
 *
 * This header includes all of:
 *
 *   kind.h    kinds and columns
 *   meta.h    what a file says of itself
 *   batch.h   rows in memory
 *   set.h     reading
 *   pieces.h  reading tokens in any order
 *   writer.h  writing
 *   blocks.h  rows cut into units of work
 *   idset.h   which ids were seen
 *   names.h   shards: names, ranges, joining
 *
 * No HDF5 type appears in them.  Thread rule: one set or writer belongs to one
 * thread at a time; different ones may be used at the same time.
 */
#ifndef DF_SHARD_SHARD_H
#define DF_SHARD_SHARD_H

#include "shard/batch.h"
#include "shard/blocks.h"
#include "shard/idset.h"
#include "shard/kind.h"
#include "shard/meta.h"
#include "shard/names.h"
#include "shard/pieces.h"
#include "shard/set.h"
#include "shard/writer.h"

#endif
