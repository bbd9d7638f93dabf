// The attention-pool ops as the dispatcher sees them: checks, allocation and dtype dispatch, the same for every device.
//
// Backend supplies the kernels:
//   Backend(tensor)                            makes the tensor's device current, as long as it lives
//   empty(shape, options)                      an uninitialised tensor that a kernel writes once
//   forward(arguments), backward(arguments)
#pragma once

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <tuple>
#include <type_traits>

#include "attention_pool.h"
#include "checks.h"
#include "feature_map.h"

namespace pumlc {

template <typename Backend>
class AttentionPoolOp {
 public:
  // x [B, C, H, W], scores [B, K, H, W] -> pooled [B, K, C], or [B, C] where grouped; means, the same before rounding
  // to the dtype of x, or [0] where that is the dtype sums are taken in; statistics [B, 2, K]
  static std::tuple<at::Tensor, at::Tensor, at::Tensor> attention_pool(const at::Tensor& x, const at::Tensor& scores,
                                                                       bool grouped) {
    check_inputs(x, scores, grouped);
    const at::Tensor map = as_feature_map(x);
    const auto accumulator = x.options().dtype(accumulation_type(x));
    const bool rounds = accumulation_type(x) != x.scalar_type();
    const auto shape = pooled_shape(x, scores, grouped);
    const Backend backend(x);
    at::Tensor pooled = at::empty(shape, x.options());
    at::Tensor means = at::empty(rounds ? at::IntArrayRef(shape) : at::IntArrayRef({0}), accumulator);
    at::Tensor statistics = at::empty({x.size(0), kSoftmaxStatisticCount, scores.size(1)}, accumulator);
    dispatch(map, scores, grouped, [&](auto a) {
      using A = std::remove_pointer_t<decltype(a.statistics_out)>;
      a.pooled = pooled.mutable_data_ptr<std::remove_pointer_t<decltype(a.pooled)>>();
      a.means_out = rounds ? means.mutable_data_ptr<A>() : nullptr;
      a.statistics_out = statistics.mutable_data_ptr<A>();
      backend.forward(a);
    });
    return {pooled, means, statistics};
  }

  // upstream [B, K, C] or [B, C], means and statistics as above (means: pooled where those are [0])
  // -> gradients of x [B, C, H, W] and of scores [B, K, H, W], channels_last
  static std::tuple<at::Tensor, at::Tensor> attention_pool_backward(const at::Tensor& upstream, const at::Tensor& x,
                                                                    const at::Tensor& scores, const at::Tensor& means,
                                                                    const at::Tensor& statistics, bool grouped) {
    check_backward(upstream, x, scores, means, statistics, grouped);
    at::Tensor x_gradient = Backend::empty(x.sizes(), as_channels_last(x));
    at::Tensor scores_gradient = backward(x_gradient, false, upstream, x, scores, means, statistics, grouped);
    return {x_gradient, scores_gradient};
  }

  // The same, and the gradient of x is added to x_gradient [B, C, H, W], channels_last -> gradient of scores
  static at::Tensor attention_pool_backward_(at::Tensor x_gradient, const at::Tensor& upstream, const at::Tensor& x,
                                             const at::Tensor& scores, const at::Tensor& means,
                                             const at::Tensor& statistics, bool grouped) {
    check_backward(upstream, x, scores, means, statistics, grouped);
    check_beside("x_gradient", x_gradient, x.sizes(), x.scalar_type(), "x", x);
    TORCH_CHECK_VALUE(x_gradient.is_contiguous(at::MemoryFormat::ChannelsLast), "x_gradient: got strides ",
                      x_gradient.strides(), ", wanted channels_last: it is written where it lies");
    return backward(x_gradient, true, upstream, x, scores, means, statistics, grouped);
  }

  static void register_ops(torch::Library& m) {
    m.impl("attention_pool", attention_pool);
    m.impl("attention_pool_backward", attention_pool_backward);
    m.impl("attention_pool_backward_", attention_pool_backward_);
  }

 private:
  static void check_inputs(const at::Tensor& x, const at::Tensor& scores, bool grouped) {
    check_feature_map("x", x);
    check_beside("scores", scores, {x.size(0), scores.dim() == 4 ? scores.size(1) : 1, x.size(2), x.size(3)},
                 x.scalar_type(), "x", x);
    TORCH_CHECK_VALUE(scores.size(1) > 0, "scores: got shape ", scores.sizes(), ", wanted at least one head");
    TORCH_CHECK_VALUE(!grouped || x.size(1) % scores.size(1) == 0, "x: got ", x.size(1),
                      " channels, wanted a multiple of the ", scores.size(1), " heads, for they are grouped");
  }

  static void check_backward(const at::Tensor& upstream, const at::Tensor& x, const at::Tensor& scores,
                             const at::Tensor& means, const at::Tensor& statistics, bool grouped) {
    check_inputs(x, scores, grouped);
    const auto shape = pooled_shape(x, scores, grouped);
    check_beside("upstream", upstream, shape, x.scalar_type(), "x", x);
    check_beside("means", means, shape, accumulation_type(x), "x", x);
    check_beside("statistics", statistics, {x.size(0), kSoftmaxStatisticCount, scores.size(1)}, accumulation_type(x),
                 "x", x);
  }

  // Writes the gradient of x, or adds it to what is there; returns the gradient of scores, channels_last.
  static at::Tensor backward(at::Tensor& x_gradient, bool adds, const at::Tensor& upstream, const at::Tensor& x,
                             const at::Tensor& scores, const at::Tensor& means, const at::Tensor& statistics,
                             bool grouped) {
    const at::Tensor map = as_feature_map(x);
    const at::Tensor gradient = upstream.contiguous();
    const at::Tensor saved_means = means.contiguous();
    const at::Tensor saved_statistics = statistics.contiguous();
    const Backend backend(x);
    at::Tensor scores_gradient = Backend::empty(scores.sizes(), as_channels_last(scores));
    dispatch(map, scores, grouped, [&](auto a) {
      using S = std::remove_pointer_t<decltype(a.pooled)>;
      using A = std::remove_pointer_t<decltype(a.statistics_out)>;
      a.upstream = gradient.const_data_ptr<S>();
      a.means = saved_means.const_data_ptr<A>();
      a.statistics = saved_statistics.const_data_ptr<A>();
      a.x_gradient = x_gradient.mutable_data_ptr<S>();
      a.adds_to_x_gradient = adds;
      a.scores_gradient = head_map(scores_gradient.mutable_data_ptr<S>(), scores_gradient, 1);
      backend.backward(a);
    });
    return scores_gradient;
  }

  static std::vector<int64_t> pooled_shape(const at::Tensor& x, const at::Tensor& scores, bool grouped) {
    if (grouped) return {x.size(0), x.size(1)};
    return {x.size(0), scores.size(1), x.size(1)};
  }

  // Calls f with the arguments of the kernels for the dtype of x, unless there is no image.
  template <typename F>
  static void dispatch(const at::Tensor& x, const at::Tensor& scores, bool grouped, const F& f) {
    if (x.size(0) == 0) return;
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, x.scalar_type(), "attention_pool", [&] {
      AttentionPoolArguments<scalar_t, Accumulation<scalar_t>> a{};
      a.images = x.size(0);
      a.positions = x.size(2) * x.size(3);
      a.channels = x.size(1);
      a.heads = scores.size(1);
      a.grouped = grouped;
      a.x = x.const_data_ptr<scalar_t>();
      a.scores = head_map(scores.const_data_ptr<scalar_t>(), scores, 1);
      f(a);
    });
  }
};

}  // namespace pumlc
