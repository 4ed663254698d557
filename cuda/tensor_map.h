// Tensor maps: how the copy engine finds a box of a matrix in global memory.
#ifndef CUDA_TENSOR_MAP_H
#define CUDA_TENSOR_MAP_H

#include "base/dtype.h"
#include "base/status.h"

#include <cuda.h>
#include <cuda_runtime_api.h>

// Both describe a row-major matrix (rows, columns) that begins on a 16-byte boundary and whose rows are a
// multiple of 16 bytes.

// Boxes of box_rows x box_columns of f32; they land in shared memory as they are.
CHECKED cudaError_t tensor_map_f32(CUtensorMap *map, const float *matrix, int rows, int columns, int box_rows,
                                   int box_columns);

// A matrix of a 16-bit type by chunks of 64 columns: a box is box_rows rows of box_chunks chunks, and lands
// as (box_chunks, box_rows, 64). Within each row of 128 bytes the 16-byte groups are exchanged by the row's
// number modulo 8: the 128-byte swizzle, as wgmma reads it. `columns` is a multiple of 64.
CHECKED cudaError_t tensor_map_chunks(CUtensorMap *map, enum dtype dtype, const void *matrix, int rows,
                                      int columns, int box_rows, int box_chunks);

#endif
