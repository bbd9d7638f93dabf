// CPU kernels of the PU loss: what an instruction-set variant offers.
//
// The unit of work is a range of tiles; a tile is `tile_width` (16 or 64) neighbouring classes with all rows
// of the batch. Tiles are independent, so the result does not depend on how threads share them.
#pragma once

#include "../pu_loss.h"

namespace pumlc::cpu {

template <typename S, typename A>
struct PuLossKernels {
  // scratch: rows * (tile_width * sizeof(A) + 8) bytes, aligned to 64
  using Kernel = void (*)(const PuLossArguments<S, A>&, int64_t tile_width, int64_t first_tile, int64_t last_tile,
                          void* scratch);
  Kernel fused;
  Kernel moments;
  Kernel probability_sums;
  Kernel finish;
};

}  // namespace pumlc::cpu
