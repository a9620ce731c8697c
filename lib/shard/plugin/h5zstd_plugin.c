/*
 * h5zstd_plugin.c - libdf_h5zstd.so: the two functions by which HDF5 finds a
 * filter in a shared object.  With HDF5_PLUGIN_PATH naming its directory,
 * h5dump, h5ls, h5repack and h5py read and write our artefacts.
 */
#include "shard/h5zstd.c" /* the plugin stands alone: one object, no library of ours */

#include <H5PLextern.h>

H5PL_type_t
H5PLget_plugin_type(void)
{
	return H5PL_TYPE_FILTER;
}

const void *
H5PLget_plugin_info(void)
{
	return &df_h5zstd_class;
}
