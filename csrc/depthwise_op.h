// The depthwise ops as the dispatcher sees them: checks, layout, allocation and dtype dispatch, the same for every
// device.
//
// Backend supplies the kernels:
//   Backend(tensor)            makes the tensor's device current, as long as it lives
//   empty(shape, options)      an uninitialised tensor that a kernel writes once
//   forward(arguments), and backward(arguments), whose sums are 0 over an empty batch
// Feature maps are handed to the kernels in channels_last, parameters in the accumulation dtype: a copy is made of
// those that are laid out or stored otherwise.
#pragma once

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <array>
#include <optional>
#include <tuple>
#include <type_traits>

#include "checks.h"
#include "depthwise.h"
#include "math/depthwise.h"

namespace pumlc {

template <typename Backend>
class DepthwiseOp {
 public:
  using Optional = std::optional<at::Tensor>;
  using Gradients = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

  static at::Tensor depthwise(const at::Tensor& x, const at::Tensor& weight, const Optional& context,
                              const Optional& gate_scores, const Optional& centre, const Optional& shift,
                              int64_t stride) {
    const Inputs in(x, weight, context, gate_scores, centre, shift, stride);
    const Backend backend(x);
    at::Tensor y = map(in.output_sizes(), x);
    if (y.numel() > 0) {
      in.dispatch([&](auto a) {
        a.y = y.mutable_data_ptr<std::remove_pointer_t<decltype(a.y)>>();
        backend.forward(a);
      });
    }
    return y;
  }

  // Empty where a gradient is not wanted: need_dx for dx; need_dweight for dweight and dcentre; need_dglobal for
  // dcontext, dgate_scores and dshift.
  static Gradients depthwise_backward(const at::Tensor& dy, const at::Tensor& x, const at::Tensor& weight,
                                      const Optional& context, const Optional& gate_scores, const Optional& centre,
                                      const Optional& shift, int64_t stride, bool need_dx, bool need_dweight,
                                      bool need_dglobal) {
    const Inputs in(x, weight, context, gate_scores, centre, shift, stride);
    check_like("dy", dy, in.output_sizes(), x.scalar_type(), x, "x");
    const bool global = need_dglobal && in.has_global_part();
    const at::Tensor upstream = dy.contiguous(at::MemoryFormat::ChannelsLast);
    at::Tensor dx, dweight, dcontext, dgate_scores, dcentre, dshift;
    {
      const Backend backend(x);
      const auto none = [&](const at::Tensor& like) { return at::empty({0}, like.options()); };
      const auto sums = [&](bool wanted, const at::Tensor& like) {
        return wanted ? Backend::empty(like.sizes(), like.options().dtype(accumulation_type(x))) : none(like);
      };
      const bool has_centre = need_dweight && in.has_global_part();
      dx = need_dx ? map(x.sizes(), x) : none(x);
      dweight = sums(need_dweight, weight);
      dcontext = sums(global, context.value_or(weight));
      dgate_scores = global ? map(gate_scores->sizes(), x) : none(x);
      dcentre = sums(has_centre, centre.value_or(weight));
      dshift = sums(global, shift.value_or(weight));
      in.dispatch([&](auto a) {
        using S = std::remove_pointer_t<decltype(a.y)>;
        using A = std::remove_pointer_t<decltype(a.dweight)>;
        a.dy = upstream.const_data_ptr<S>();
        if (need_dx) a.dx = dx.mutable_data_ptr<S>();
        if (need_dweight) a.dweight = dweight.mutable_data_ptr<A>();
        if (has_centre) a.dcentre = dcentre.mutable_data_ptr<A>();
        if (global) {
          a.dcontext = dcontext.mutable_data_ptr<A>();
          a.dgate_scores = dgate_scores.mutable_data_ptr<S>();
          a.dshift = dshift.mutable_data_ptr<A>();
        }
        backend.backward(a);
      });
    }
    const auto as = [](const at::Tensor& gradient, const at::Tensor& like) { return gradient.to(like.scalar_type()); };
    return {dx,
            as(dweight, weight),
            as(dcontext, context.value_or(weight)),
            dgate_scores,
            as(dcentre, centre.value_or(weight)),
            as(dshift, shift.value_or(weight))};
  }

  static void register_ops(torch::Library& m) {
    m.impl("depthwise", depthwise);
    m.impl("depthwise_backward", depthwise_backward);
  }

 private:
  static at::Tensor map(at::IntArrayRef sizes, const at::Tensor& like) {
    return Backend::empty(sizes, like.options().memory_format(at::MemoryFormat::ChannelsLast));
  }

  // Checked inputs, as the kernels read them.
  class Inputs {
   public:
    Inputs(const at::Tensor& x, const at::Tensor& weight, const Optional& context, const Optional& gate_scores,
           const Optional& centre, const Optional& shift, int64_t stride)
        : stride_(stride) {
      check_feature_map("x", x);
      check_depthwise_weight(weight, x);
      TORCH_CHECK_VALUE(stride == 1 || stride == 2, "stride: got ", stride, ", wanted 1 or 2");
      has_global_part_ = context.has_value();
      TORCH_CHECK_VALUE(gate_scores.has_value() == has_global_part_ && centre.has_value() == has_global_part_ &&
                            shift.has_value() == has_global_part_,
                        "context, gate_scores, centre, shift: wanted all of them or none");
      const int64_t channels = x.size(1);
      if (has_global_part_) {
        check_parameter("context", *context, {x.size(0), channels}, x);
        check_parameter("centre", *centre, {channels}, x);
        check_parameter("shift", *shift, {channels}, x);
        check_gate_scores(*gate_scores, x);
        gate_scores_ = *gate_scores;
        context_ = as_parameter(*context, x);
        centre_ = as_parameter(*centre, x);
        shift_ = as_parameter(*shift, x);
      }
      weight_ = as_parameter(weight, x);
      x_ = x.contiguous(at::MemoryFormat::ChannelsLast);
    }

    bool has_global_part() const { return has_global_part_; }

    std::array<int64_t, 4> output_sizes() const {
      return {x_.size(0), x_.size(1), math::depthwise_output(x_.size(2), stride_),
              math::depthwise_output(x_.size(3), stride_)};
    }

    // Calls f with the arguments of the kernels for the dtype of x.
    template <typename F>
    void dispatch(const F& f) const {
      AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, x_.scalar_type(), "depthwise", [&] {
        using A = std::conditional_t<std::is_same_v<scalar_t, double>, double, float>;
        DepthwiseArguments<scalar_t, A> a{};
        const auto sizes = output_sizes();
        a.batch = sizes[0];
        a.channels = sizes[1];
        a.height = x_.size(2);
        a.width = x_.size(3);
        a.out_height = sizes[2];
        a.out_width = sizes[3];
        a.kernel_size = static_cast<int>(weight_.size(2));
        a.stride = static_cast<int>(stride_);
        a.x = x_.const_data_ptr<scalar_t>();
        a.weight = weight_.const_data_ptr<A>();
        if (has_global_part_) {
          a.centre = centre_.const_data_ptr<A>();
          a.context = context_.const_data_ptr<A>();
          a.shift = shift_.const_data_ptr<A>();
          a.gate_scores = gate_scores_.const_data_ptr<scalar_t>();
          for (int i = 0; i < 4; ++i) a.gate_strides[i] = gate_scores_.stride(i);
          a.heads = gate_scores_.size(1);
        }
        f(a);
      });
    }

   private:
    static at::Tensor as_parameter(const at::Tensor& tensor, const at::Tensor& x) {
      return tensor.to(accumulation_type(x)).contiguous();
    }

    int64_t stride_;
    bool has_global_part_;
    at::Tensor x_;
    at::Tensor weight_;
    at::Tensor context_;
    at::Tensor gate_scores_;
    at::Tensor centre_;
    at::Tensor shift_;
  };
};

}  // namespace pumlc
