// The gated broadcast-add ops as the dispatcher sees them: checks, allocation and dtype dispatch, the same for every
// device.
//
// Backend supplies the kernels:
//   Backend(tensor)                            makes the tensor's device current, as long as it lives
//   empty(shape, options)                      an uninitialised tensor that a kernel writes once
//   clear(tensor)                              fills it with zeros
//   forward(arguments), backward(arguments)
#pragma once

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <tuple>
#include <type_traits>

#include "checks.h"
#include "feature_map.h"
#include "gated_broadcast_add.h"

namespace pumlc {

template <typename Backend>
class GatedBroadcastAddOp {
 public:
  // y [B, O, H, W], u [B, O, K], gate_scores [B, K, H', W'] of the dtype of y, scale [O], shift [O]
  // -> [B, O, H, W], channels_last
  static at::Tensor gated_broadcast_add(const at::Tensor& y, const at::Tensor& u, const at::Tensor& gate_scores,
                                        const at::Tensor& scale, const at::Tensor& shift, int64_t stride) {
    check_feature_map("y", y);
    check_inputs("y", y, u, gate_scores, scale, stride);
    check_vector("shift", shift, y.size(1), "y", y);
    const at::Tensor map = as_feature_map(y);
    const Parameters parameters(y, u, scale, shift);
    const Backend backend(y);
    at::Tensor out = Backend::empty(y.sizes(), as_channels_last(y));
    if (y.size(0) == 0) return out;
    dispatch(map, gate_scores, parameters, stride, [&](auto a) {
      using S = std::remove_pointer_t<decltype(a.out)>;
      a.shift = parameters.shift.template const_data_ptr<std::remove_pointer_t<decltype(a.u_gradient)>>();
      a.y = map.const_data_ptr<S>();
      a.out = out.mutable_data_ptr<S>();
      backend.forward(a);
    });
    return out;
  }

  // upstream [B, O, H, W], the others as above -> gradients of u [B, O, K], of gate_scores [B, K, H', W']
  // (channels_last), of scale [O] and of shift [O]; in the dtype that sums are taken in, except that of gate_scores
  static std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> gated_broadcast_add_backward(
      const at::Tensor& upstream, const at::Tensor& u, const at::Tensor& gate_scores, const at::Tensor& scale,
      int64_t stride) {
    check_feature_map("upstream", upstream);
    check_inputs("upstream", upstream, u, gate_scores, scale, stride);
    const at::Tensor map = as_feature_map(upstream);
    const Parameters parameters(upstream, u, scale, scale);
    const auto accumulator = upstream.options().dtype(accumulation_type(upstream));
    const Backend backend(upstream);
    at::Tensor u_gradient = at::empty(u.sizes(), accumulator);
    at::Tensor gate_gradient = Backend::empty(gate_scores.sizes(), as_channels_last(gate_scores));
    at::Tensor scale_gradient = at::empty(scale.sizes(), accumulator);
    at::Tensor shift_gradient = at::empty(scale.sizes(), accumulator);
    if (upstream.size(0) == 0) {
      backend.clear(scale_gradient);
      backend.clear(shift_gradient);
      return {u_gradient, gate_gradient, scale_gradient, shift_gradient};
    }
    if (stride > 1) backend.clear(gate_gradient);  // at positions that are not sampled
    dispatch(map, gate_scores, parameters, stride, [&](auto a) {
      using S = std::remove_pointer_t<decltype(a.out)>;
      using A = std::remove_pointer_t<decltype(a.u_gradient)>;
      a.upstream = map.const_data_ptr<S>();
      a.gate_gradient = head_map(gate_gradient.mutable_data_ptr<S>(), gate_gradient, stride);
      a.u_gradient = u_gradient.mutable_data_ptr<A>();
      a.scale_gradient = scale_gradient.mutable_data_ptr<A>();
      a.shift_gradient = shift_gradient.mutable_data_ptr<A>();
      backend.backward(a);
    });
    return {u_gradient, gate_gradient, scale_gradient, shift_gradient};
  }

  static void register_ops(torch::Library& m) {
    m.impl("gated_broadcast_add", gated_broadcast_add);
    m.impl("gated_broadcast_add_backward", gated_broadcast_add_backward);
  }

 private:
  // u [B, O, K], scale [O] and shift [O] in the dtype that sums are taken in.
  struct Parameters {
    Parameters(const at::Tensor& map, const at::Tensor& u, const at::Tensor& scale, const at::Tensor& shift)
        : u(u.to(accumulation_type(map)).contiguous()),
          scale(scale.to(accumulation_type(map)).contiguous()),
          shift(shift.to(accumulation_type(map)).contiguous()) {}
    at::Tensor u;
    at::Tensor scale;
    at::Tensor shift;
  };

  // map [B, O, H, W] is the argument of that name.
  static void check_inputs(const char* name, const at::Tensor& map, const at::Tensor& u, const at::Tensor& gate_scores,
                           const at::Tensor& scale, int64_t stride) {
    TORCH_CHECK_VALUE(stride >= 1, "stride: got ", stride, ", wanted at least 1");
    check_same_device("gate_scores", gate_scores, name, map);
    TORCH_CHECK_VALUE(gate_scores.dim() == 4 && gate_scores.size(0) == map.size(0) && gate_scores.size(1) > 0 &&
                          sampled(gate_scores.size(2), stride) == map.size(2) &&
                          sampled(gate_scores.size(3), stride) == map.size(3),
                      "gate_scores: got shape ", gate_scores.sizes(), ", wanted [B, K, H', W'] with every ", stride,
                      "-th row and column beside ", name, ", ", map.sizes());
    check_dtype("gate_scores", gate_scores, map.scalar_type());
    check_floating("u", u);
    check_beside("u", u, {map.size(0), map.size(1), gate_scores.size(1)}, u.scalar_type(), name, map);
    check_vector("scale", scale, map.size(1), name, map);
  }

  // tensor [size], floating point, beside the argument `other_name`
  static void check_vector(const char* name, const at::Tensor& tensor, int64_t size, const char* other_name,
                           const at::Tensor& other) {
    check_floating(name, tensor);
    check_beside(name, tensor, {size}, tensor.scalar_type(), other_name, other);
  }

  static int64_t sampled(int64_t size, int64_t stride) { return (size + stride - 1) / stride; }

  // Calls f with the arguments of the kernels for the dtype of the map.
  template <typename F>
  static void dispatch(const at::Tensor& map, const at::Tensor& gate_scores, const Parameters& parameters,
                       int64_t stride, const F& f) {
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, map.scalar_type(), "gated_broadcast_add", [&] {
      using A = Accumulation<scalar_t>;
      GatedBroadcastAddArguments<scalar_t, A> a{};
      a.images = map.size(0);
      a.positions = map.size(2) * map.size(3);
      a.channels = map.size(1);
      a.heads = gate_scores.size(1);
      a.gate_scores = head_map(gate_scores.const_data_ptr<scalar_t>(), gate_scores, stride);
      a.u = parameters.u.template const_data_ptr<A>();
      a.scale = parameters.scale.template const_data_ptr<A>();
      f(a);
    });
  }
};

}  // namespace pumlc
