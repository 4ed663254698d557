#include "cuda/pack_slices.h"

#include <stdint.h>

namespace {

enum { SLICE_INPUTS = 64, SHARES = 8, PIECES = 8, PIECE_ELEMENTS = 8, THREADS = 256 };

// One thread per piece of 16 bytes: block z is the layer, y the slice.
__global__ void pack_kernel(uint4 *packed, const layered weight, int outputs, int inputs) {
    const int i = blockIdx.x * THREADS + threadIdx.x, piece = i % PIECES, row = i / PIECES;
    if (row >= outputs) return;
    const char *matrix = static_cast<const char *>(weight.first) + blockIdx.z * weight.stride;
    const uint4 *from = reinterpret_cast<const uint4 *>(matrix) +
                        ((size_t)row * inputs + blockIdx.y * SLICE_INPUTS) / PIECE_ELEMENTS;
    const int row_of_share = row % (outputs / SHARES);
    uint4 *slice = packed + ((size_t)blockIdx.z * gridDim.y + blockIdx.y) * outputs * PIECES;
    slice[row * PIECES + (piece ^ (row_of_share % PIECES))] = from[piece];
}

} // namespace

cudaError_t pack_slices(void *packed, const struct layered *weight, int layers, int outputs, int inputs,
                        cudaStream_t stream) {
    const dim3 grid((unsigned)((outputs * PIECES + THREADS - 1) / THREADS), (unsigned)(inputs / SLICE_INPUTS),
                    (unsigned)layers);
    pack_kernel<<<grid, THREADS, 0, stream>>>(static_cast<uint4 *>(packed), *weight, outputs, inputs);
    return cudaGetLastError();
}
