// Launchers of the semantic-attention kernels.
#pragma once

#include <cuda_runtime.h>

#include "../semantic_attention.h"

namespace pumlc::cuda {

template <typename S, typename A>
cudaError_t semantic_attention_forward(const SemanticAttentionArguments<S, A>& arguments, cudaStream_t stream);

// Parts that the rows (positions of images) are divided into by semantic_attention_backward.
cudaError_t semantic_attention_splits(int64_t rows, int64_t classes, int64_t dimensions, int64_t number_bytes,
                                      int64_t* splits);

// partial: [splits, C + 1, D]
template <typename S, typename A>
cudaError_t semantic_attention_backward(const SemanticAttentionArguments<S, A>& arguments, int64_t splits, A* partial,
                                        cudaStream_t stream);

}  // namespace pumlc::cuda
