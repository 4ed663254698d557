// When a kernel of a decode step lets the kernel behind it start (launch.cuh).
//
// The next one then asks the memory for what does not depend on this one: its weights, or attention's keys
// and values. The sooner it does the better, but for what this kernel itself still waits for, which stands in
// line behind that.
#ifndef CUDA_DECODE_NEXT_H
#define CUDA_DECODE_NEXT_H

enum decode_next {
    NEXT_AFTER_WAIT, // when all in front of this kernel is complete
    NEXT_AT_ONCE,    // before
    NEXT_AFTER_ROWS, // when a product's first rows are in shared memory, too
};

// Of a layer, in their order.
enum decode_kernel {
    DECODE_QKV,
    DECODE_ATTENTION,
    DECODE_PROJECTION,
    DECODE_FC,
    DECODE_FC2,
    DECODE_KERNELS,
};

// For B rows of C channels. The first kernel of a step waits whatever is measured: what earlier steps wrote
// is complete before anything behind it starts.
enum decode_next decode_next_choose(enum decode_kernel kernel, int layer, int B, int C);

#endif
