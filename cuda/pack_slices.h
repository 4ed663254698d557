// Weights in the order in which the persistent step takes them (persistent_product.cuh, slices): reading 128
// bytes here and there costs bandwidth that reading all of a slice at once does not.
#ifndef CUDA_PACK_SLICES_H
#define CUDA_PACK_SLICES_H

#include "base/status.h"
#include "cuda/weights.h"

#include <cuda_runtime_api.h>

// Packs `layers` matrices (outputs, inputs) of a 16-bit type, outputs and inputs multiples of 64, into as
// many bytes: (layers, inputs / 64, 8, outputs / 8, 64), from one eighth of the outputs to the next. Within
// each row of 64 the 16-byte pieces are exchanged by the row's number modulo 8, so that the same piece of 8
// rows lies in different banks of shared memory.
CHECKED cudaError_t pack_slices(void *packed, const struct layered *weight, int layers, int outputs,
                                int inputs, cudaStream_t stream);

#endif
