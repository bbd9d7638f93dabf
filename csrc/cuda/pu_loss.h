// Launchers of the PU-loss kernels.
#pragma once

#include <cuda_runtime.h>

#include "../pu_loss.h"

namespace pumlc::cuda {

// Loss, statistics and gradient in one launch. *fits is false, and nothing is launched, where the rows of a
// few classes do not fit in the shared memory of a block: then the three phases below give the same. ticket:
// one counter in device memory, of any value.
template <typename S, typename A>
cudaError_t pu_loss_fused(const PuLossArguments<S, A>& arguments, unsigned* ticket, bool* fits, cudaStream_t stream);

// Parts that the rows are divided into by the two launchers below.
cudaError_t pu_loss_splits(int64_t rows, int64_t columns, int64_t* splits);

// workspace: [splits, 4, columns]
template <typename S, typename A>
cudaError_t pu_loss_moments(const PuLossArguments<S, A>& arguments, int64_t splits, A* workspace, cudaStream_t stream);

// workspace: [splits, 2, columns]
template <typename S, typename A>
cudaError_t pu_loss_probability_sums(const PuLossArguments<S, A>& arguments, int64_t splits, A* workspace,
                                     cudaStream_t stream);

// ticket: one counter in device memory, of any value.
template <typename S, typename A>
cudaError_t pu_loss_finish(const PuLossArguments<S, A>& arguments, int64_t splits, unsigned* ticket,
                           cudaStream_t stream);

}  // namespace pumlc::cuda
