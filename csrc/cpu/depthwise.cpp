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

// Tasks of dweight for a thread, where there are channels enough: with one, the slowest thread would be waited for.
constexpr int64_t kTasksOfAThread = 4;

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
    // no gates without a global part; what is behind them is read, and not used
    const Scratch<A> gates(a.batch * a.out_height * a.out_width * a.heads + kernel.tile_width);
    if (a.context != nullptr) {
      share(a.batch * a.out_height, 16 * a.out_width * a.heads,
            [&](int64_t first, int64_t last) { kernel.open_gates(a, gates.get(), first, last); });
    }
    const Scratch<A> weights = laid_out_weights(a, false);
    DepthwiseArguments<S, A> roomy = a;
    const Scratch<S> copy = with_room_behind(a, roomy.x, a.batch * a.height * a.width);
    share(a.batch * depthwise_row_pairs(a.out_height), 2 * row_work(a, a.out_width),
          [&](int64_t first, int64_t last) { kernel.forward(roomy, weights.get(), gates.get(), first, last); });
  }

  template <typename S, typename A>
  void backward(const DepthwiseArguments<S, A>& a) const {
    const auto& kernel = kernels().of<S>().depthwise;
    DepthwiseArguments<S, A> roomy = a;
    const bool is_dy_convolved = a.dx != nullptr || a.dweight != nullptr;
    const Scratch<S> dy = with_room_behind(a, roomy.dy, is_dy_convolved ? a.batch * a.out_height * a.out_width : 0);
    if (a.dx != nullptr) {
      const Scratch<A> weights = laid_out_weights(a, a.stride == 1);
      share(a.batch * depthwise_row_pairs(a.height), 2 * row_work(a, a.width),
            [&](int64_t first, int64_t last) { kernel.input_gradient(roomy, weights.get(), first, last); });
    }
    if (a.dweight != nullptr) {
      const Scratch<S> x = with_room_behind(a, roomy.x, a.batch * a.height * a.width);
      const int64_t parts = a.batch * depthwise_bands(a.out_height);
      const int64_t taps = int64_t{a.kernel_size} * a.kernel_size;
      const int64_t numbers = parts * taps * kernel.tile_width;  // of a tile's parts
      const Scratch<A> partial(tiles(a) * numbers);
      const int64_t rows = std::min(kDepthwiseBand, a.out_height);
      const int64_t wanted = kTasksOfAThread * at::get_num_threads();
      const int64_t groups = depthwise_tile_groups(tiles(a), (wanted + parts - 1) / std::max<int64_t>(parts, 1));
      share(parts * groups, rows * row_work(a, a.out_width) / groups,
            [&](int64_t first, int64_t last) { kernel.weight_parts(roomy, partial.get(), groups, first, last); });
      share(tiles(a), numbers, [&](int64_t first, int64_t last) { kernel.sum_parts(a, partial.get(), first, last); });
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

  template <typename S, typename A>
  static Scratch<A> laid_out_weights(const DepthwiseArguments<S, A>& a, bool flipped) {
    const auto& kernel = kernels().of<S>().depthwise;
    const int64_t numbers = a.kernel_size * a.kernel_size * kernel.tile_width;
    Scratch<A> weights(tiles(a) * numbers);
    share(tiles(a), 16 * numbers,
          [&](int64_t first, int64_t last) { kernel.lay_out_weights(a, flipped, weights.get(), first, last); });
    return weights;
  }

  // A map with fewer channels than a tile is replaced by a copy that may be read a tile behind its end.
  template <typename S, typename A>
  static Scratch<S> with_room_behind(const DepthwiseArguments<S, A>& a, const S*& map, int64_t positions) {
    const int64_t width = kernels().of<S>().depthwise.tile_width;
    if (a.channels >= width) return Scratch<S>(0);
    Scratch<S> copy(positions * a.channels + width);
    std::copy_n(map, positions * a.channels, copy.get());
    map = copy.get();
    return copy;
  }

  // Multiply-adds of a row.
  template <typename S, typename A>
  static int64_t row_work(const DepthwiseArguments<S, A>& a, int64_t width) {
    return width * a.kernel_size * a.kernel_size * a.channels;
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
