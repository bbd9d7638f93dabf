// Launchers of the depthwise kernels.
#pragma once

#include <cuda_runtime.h>

#include "../depthwise.h"

namespace pumlc::cuda {

// y, with the global part where there is a context.
template <typename S, typename A>
cudaError_t depthwise_forward(const DepthwiseArguments<S, A>& arguments, cudaStream_t stream);

// How a backward pass is divided, which its workspaces depend on.
struct DepthwisePlan {
  int64_t band;       // rows of x that a block works on, a multiple of the stride
  int64_t bands;      // of an image
  int64_t parts;      // of dweight
  int64_t positions;  // of dy that a block of the global part works on
  int64_t chunks;     // of an image
};

template <typename S, typename A>
cudaError_t depthwise_plan(const DepthwiseArguments<S, A>& arguments, DepthwisePlan* plan);

// dx, dweight and dcentre, those of them that are not null. workspace: [parts, K K, C], where dweight is wanted.
template <typename S, typename A>
cudaError_t depthwise_backward(const DepthwiseArguments<S, A>& arguments, const DepthwisePlan& plan, A* workspace,
                               cudaStream_t stream);

// dcontext, dgate_scores and dshift. workspace: [2 B chunks + B, C]
template <typename S, typename A>
cudaError_t depthwise_global_backward(const DepthwiseArguments<S, A>& arguments, const DepthwisePlan& plan,
                                      A* workspace, cudaStream_t stream);

}  // namespace pumlc::cuda
