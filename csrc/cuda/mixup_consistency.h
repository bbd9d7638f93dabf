// Launcher of the mixup-consistency kernel.
#pragma once

#include <cuda_runtime.h>

#include "../mixup_consistency.h"

namespace pumlc::cuda {

// Blocks that mixup_consistency is launched with.
cudaError_t mixup_consistency_blocks(int64_t pairs, int64_t columns, int64_t* blocks);

// partial: [blocks]. ticket: one counter in device memory, of any value.
template <typename S, typename A>
cudaError_t mixup_consistency(const MixupConsistencyArguments<S, A>& arguments, int64_t blocks, A* partial,
                              unsigned* ticket, cudaStream_t stream);

}  // namespace pumlc::cuda
