#include "cuda/tensor_map.h"

#include <stdint.h>

// The driver's encoder, found at run time: the program does not link against the driver's library.
static cudaError_t find_encoder(decltype(&cuTensorMapEncodeTiled) *encoder) {
    void *entry = NULL;
    cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
    cudaError_t code =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found);
#else
    cudaError_t code = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &entry, cudaEnableDefault, &found);
#endif
    if (code != cudaSuccess) return code;
    if (found != cudaDriverEntryPointSuccess || !entry) return cudaErrorNotSupported;
    *encoder = (decltype(&cuTensorMapEncodeTiled))entry;
    return cudaSuccess;
}

static cudaError_t encode(CUtensorMap *map, CUtensorMapDataType type, int dimensions, const void *matrix,
                          const cuuint64_t *size, const cuuint64_t *stride, const cuuint32_t *box,
                          CUtensorMapSwizzle swizzle) {
    static decltype(&cuTensorMapEncodeTiled) encoder; // the same for all devices and threads
    if (!encoder) {
        cudaError_t code = find_encoder(&encoder);
        if (code != cudaSuccess) return code;
    }
    const cuuint32_t step[3] = {1, 1, 1};
    const CUresult result = encoder(map, type, (cuuint32_t)dimensions, const_cast<void *>(matrix), size,
                                    stride, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                                    CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return result == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t tensor_map_f32(CUtensorMap *map, const float *matrix, int rows, int columns, int box_rows,
                           int box_columns) {
    const cuuint64_t size[2] = {(cuuint64_t)columns, (cuuint64_t)rows},
                     stride[1] = {(cuuint64_t)columns * sizeof(float)};
    const cuuint32_t box[2] = {(cuuint32_t)box_columns, (cuuint32_t)box_rows};
    return encode(map, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 2, matrix, size, stride, box,
                  CU_TENSOR_MAP_SWIZZLE_NONE);
}

cudaError_t tensor_map_chunks(CUtensorMap *map, enum dtype dtype, const void *matrix, int rows, int columns,
                              int box_rows, int box_chunks) {
    constexpr int CHUNK = 64;
    const cuuint64_t size[3] = {CHUNK, (cuuint64_t)rows, (cuuint64_t)columns / CHUNK},
                     stride[2] = {(cuuint64_t)columns * 2, CHUNK * 2};
    const cuuint32_t box[3] = {CHUNK, (cuuint32_t)box_rows, (cuuint32_t)box_chunks};
    return encode(map,
                  dtype == DTYPE_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 3,
                  matrix, size, stride, box, CU_TENSOR_MAP_SWIZZLE_128B);
}
