// Launcher of the elementwise-loss kernels.
#pragma once

#include <cuda_runtime.h>

#include "../elementwise_loss.h"

namespace pumlc::cuda {

// Blocks that elementwise_loss is launched with.
cudaError_t elementwise_loss_blocks(int64_t elements, int64_t* blocks);

// loss: one of math/elementwise_loss.h. partial: [blocks]. ticket: one counter in device memory, of any value.
template <typename S, typename A, typename Loss>
cudaError_t elementwise_loss(const ElementwiseLossArguments<S, A>& arguments, const Loss& loss, int64_t blocks,
                             double* partial, unsigned* ticket, cudaStream_t stream);

}  // namespace pumlc::cuda
