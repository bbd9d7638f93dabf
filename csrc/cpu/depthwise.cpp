// Depthwise convolution on the CPU: tasks shared by threads. The maths is in ../math/depthwise.h, the loops are in
// depthwise_kernel.h.
#include "depthwise.h"

#include <ATen/Parallel.h>
#include <c10/core/CPUAllocator.h>

#include "../depthwise_op.h"
#include "huge_pages.h"
#include "kernels.h"

namespace pumlc::cpu {
namespace {

// Multiply-adds below which a second thread costs more than it gives.
constexpr int64_t kGrain = 1 << 17;

// Uninitialised memory for as long as the object lives.
template <typename T>
class Scratch {
 public:
  explicit Scratch(int64_t elements) : memory_(c10::GetCPUAllocator()->allocate(elements * sizeof(T))) {}
  T* get() const { return static_cast<T*>(memory_.get()); }

 private:
  c10::DataPtr memory_;
};

struct Backend {
  explicit Backend(const at::Tensor&) {}

  static at::Tensor empty(at::IntArrayRef shape, const at::TensorOptions& options) {
    return empty_for_writing(shape, options);
  }

  template <typename S, typename A>
  void forward(const DepthwiseArguments<S, A>& a) const {
    const auto& kernel = kernels().of<S>().depthwise;
    const Scratch<A> gates(a.batch * a.out_height * a.out_width * a.heads);  // of no elements without a global part
    if (a.context != nullptr) {
      share(a.batch * a.out_height, 16 * a.out_width * a.heads,
            [&](int64_t first, int64_t last) { kernel.open_gates(a, gates.get(), first, last); });
    }
    const int64_t rows = std::min(kDepthwiseBand, a.out_height);
    share(tiles(a) * a.batch * depthwise_bands(a.out_height), rows * a.out_width * task_work(a),
          [&](int64_t first, int64_t last) {
            const Scratch<A> scratch(depthwise_scratch(a.kernel_size, a.width) * kernel.tile_width);
            kernel.forward(a, gates.get(), scratch.get(), first, last);
          });
  }

  template <typename S, typename A>
  void backward(const DepthwiseArguments<S, A>& a) const {
    const auto& kernel = kernels().of<S>().depthwise;
    if (a.dx != nullptr || a.dweight != nullptr) {
      const int64_t parts = a.batch * depthwise_bands(a.height);
      const int64_t numbers = parts * a.kernel_size * a.kernel_size * kernel.tile_width;  // of a tile's parts
      const Scratch<A> partial(a.dweight != nullptr ? tiles(a) * numbers : 0);
      const int64_t rows = std::min(kDepthwiseBand, a.height);
      share(tiles(a) * parts, rows * a.width * task_work(a), [&](int64_t first, int64_t last) {
        const Scratch<A> scratch(depthwise_scratch(a.kernel_size, a.width) * kernel.tile_width);
        kernel.backward(a, partial.get(), scratch.get(), first, last);
      });
      if (a.dweight != nullptr) {
        share(tiles(a), numbers, [&](int64_t first, int64_t last) { kernel.sum_parts(a, partial.get(), first, last); });
      }
    }
    if (a.dshift != nullptr) global_backward(a);
  }

 private:
  template <typename S, typename A>
  static void global_backward(const DepthwiseArguments<S, A>& a) {
    const int64_t bands = depthwise_bands(a.out_height);
    const int64_t parts = a.batch * bands;
    const Scratch<double> sums(2 * parts * a.channels);
    share(parts, kDepthwiseBand * a.out_width * a.channels, [&](int64_t first, int64_t last) {
      const Scratch<A> scratch(3 * a.channels);
      kernels().of<S>().depthwise.global_backward(a, sums.get(), scratch.get(), first, last);
    });
    // in the order of the parts, so that no thread count changes it
    const double* const of_context = sums.get();
    const double* const of_shift = of_context + parts * a.channels;
    for (int64_t image = 0; image < a.batch; ++image)
      add_up(of_context + image * bands * a.channels, bands, a.channels, a.dcontext + image * a.channels);
    add_up(of_shift, parts, a.channels, a.dshift);
  }

  // parts [count, channels] -> their sums [channels]
  template <typename A>
  static void add_up(const double* parts, int64_t count, int64_t channels, A* to) {
    for (int64_t c = 0; c < channels; ++c) {
      double sum = 0.0;
      for (int64_t part = 0; part < count; ++part) sum += parts[part * channels + c];
      to[c] = static_cast<A>(sum);
    }
  }

  template <typename S, typename A>
  static int64_t tiles(const DepthwiseArguments<S, A>& a) {
    const int64_t width = kernels().of<S>().depthwise.tile_width;
    return (a.channels + width - 1) / width;
  }

  // Multiply-adds of a tile at one position.
  template <typename S, typename A>
  static int64_t task_work(const DepthwiseArguments<S, A>& a) {
    return int64_t{a.kernel_size} * a.kernel_size * kernels().of<S>().depthwise.tile_width;
  }

  // Calls f(first, last) for ranges of tasks of `work` multiply-adds each.
  template <typename F>
  static void share(int64_t tasks, int64_t work, const F& f) {
    at::parallel_for(0, tasks, std::max<int64_t>(kGrain / std::max<int64_t>(work, 1), 1), f);
  }
};

}  // namespace

TORCH_LIBRARY_IMPL(pumlc, CPU, m) { DepthwiseOp<Backend>::register_ops(m); }

}  // namespace pumlc::cpu
