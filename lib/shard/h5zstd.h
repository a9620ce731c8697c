/*
 * h5zstd.h - the Zstandard filter as HDF5 wants it (private to this room and its plugin).
 */
#ifndef DF_SHARD_H5ZSTD_H
#define DF_SHARD_H5ZSTD_H

#include <hdf5.h>

extern const H5Z_class2_t df_h5zstd_class;

#endif
