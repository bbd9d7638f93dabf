// Launchers of the gated broadcast-add kernels.
#pragma once

#include <cuda_runtime.h>

#include "../gated_broadcast_add.h"

namespace pumlc::cuda {

template <typename S, typename A>
cudaError_t gated_broadcast_add_forward(const GatedBroadcastAddArguments<S, A>& arguments, cudaStream_t stream);

// How gated_broadcast_add_backward divides its work.
struct GatedBroadcastAddParts {
  int64_t splits;         // of the positions of an image
  int64_t channel_parts;  // of the channels
};
template <typename S, typename A>
cudaError_t gated_broadcast_add_parts(const GatedBroadcastAddArguments<S, A>& arguments, GatedBroadcastAddParts* parts);

// What gated_broadcast_add_backward needs beside its arguments.
template <typename A>
struct GatedBroadcastAddWorkspace {
  A* sums;    // [B, splits, K, O]
  A* totals;  // [B, splits, O]
  A* images;  // [2, B, O]
  A* dots;    // [channel_parts, B, K, P], or null for one part
};
template <typename S, typename A>
cudaError_t gated_broadcast_add_backward(const GatedBroadcastAddArguments<S, A>& arguments,
                                         const GatedBroadcastAddWorkspace<A>& workspace, cudaStream_t stream);

}  // namespace pumlc::cuda
