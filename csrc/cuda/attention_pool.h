// Launchers of the attention-pool kernels.
#pragma once

#include <cuda_runtime.h>

#include "../attention_pool.h"

namespace pumlc::cuda {

// Parts that the positions of an image are divided into by attention_pool_forward.
template <typename S, typename A>
cudaError_t attention_pool_splits(const AttentionPoolArguments<S, A>& arguments, int64_t* splits);

// partial: [B, splits, K, C]; partial_statistics: [B, splits, 2, K]
template <typename S, typename A>
cudaError_t attention_pool_forward(const AttentionPoolArguments<S, A>& arguments, A* partial, A* partial_statistics,
                                   cudaStream_t stream);

template <typename S, typename A>
cudaError_t attention_pool_backward(const AttentionPoolArguments<S, A>& arguments, cudaStream_t stream);

}  // namespace pumlc::cuda
