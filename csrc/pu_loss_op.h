// The PU-loss ops as the dispatcher sees them: checks, allocation and dtype dispatch, the same for every device.
//
// Backend supplies the kernels:
//   Backend(tensor)                       makes the tensor's device current, as long as it lives
//   empty(shape, options)                 an uninitialised tensor that a kernel writes once
//   fused(arguments), moments(arguments), probability_sums(arguments), finish(arguments)
// An op makes its backend when its inputs are as the kernels want them, and allocates its outputs after that.
#pragma once

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mul.h>
#include <torch/library.h>

#include <tuple>
#include <type_traits>

#include "checks.h"
#include "math/pu_loss.h"
#include "pu_loss.h"

namespace pumlc {

template <typename Backend>
class PuLossOp {
 public:
  using Result = std::tuple<at::Tensor, at::Tensor, at::Tensor>;  // loss [], statistics [5, C], gradient [B, C]

  static Result pu_loss(const at::Tensor& logits, const at::Tensor& labels, double alpha, double gamma,
                        double min_temperature, bool with_gradient) {
    const Inputs in(logits, labels);
    check_not_empty(logits);
    const Backend backend(logits);
    at::Tensor loss = in.accumulator({});
    at::Tensor statistics = in.accumulator({math::kPuStatisticCount, in.columns()});
    at::Tensor gradient = Backend::empty({with_gradient ? in.rows() : 0, in.columns()}, logits.options());
    in.dispatch([&](auto a) {
      set_scalars(a, alpha, gamma, min_temperature, 1.0);
      set_results(a, loss, statistics, gradient);
      if (!with_gradient) a.gradient = nullptr;
      backend.fused(a);
    });
    return {loss, statistics, gradient};
  }

  static at::Tensor pu_moments(const at::Tensor& logits, const at::Tensor& labels) {
    const Inputs in(logits, labels);
    const Backend backend(logits);
    at::Tensor moments = in.accumulator({1, math::kPuMomentCount, in.columns()});
    in.dispatch([&](auto a) {
      a.moments_out = moments.mutable_data_ptr<std::remove_pointer_t<decltype(a.moments_out)>>();
      backend.moments(a);
    });
    return moments;
  }

  static at::Tensor pu_probability_sums(const at::Tensor& logits, const at::Tensor& labels, const at::Tensor& moments,
                                        double alpha, double min_temperature) {
    const Inputs in(logits, labels);
    check_moments(moments, in);
    const at::Tensor parts = moments.contiguous();
    const Backend backend(logits);
    at::Tensor sums = in.accumulator({math::kPuSumCount, in.columns()});
    in.dispatch([&](auto a) {
      set_scalars(a, alpha, 0.0, min_temperature, 1.0);
      set_moments(a, parts);
      a.sums_out = sums.mutable_data_ptr<std::remove_pointer_t<decltype(a.sums_out)>>();
      backend.probability_sums(a);
    });
    return sums;
  }

  static Result pu_finish(const at::Tensor& logits, const at::Tensor& labels, const at::Tensor& moments,
                          const at::Tensor& sums, double alpha, double gamma, double min_temperature,
                          double gradient_scale) {
    const Inputs in(logits, labels);
    check_moments(moments, in);
    check_like("sums", sums, {math::kPuSumCount, in.columns()}, accumulation_type(logits), logits);
    const at::Tensor parts = moments.contiguous();
    const at::Tensor whole = sums.contiguous();
    const Backend backend(logits);
    at::Tensor loss = in.accumulator({});
    at::Tensor statistics = in.accumulator({math::kPuStatisticCount, in.columns()});
    at::Tensor gradient = Backend::empty(logits.sizes(), logits.options());
    in.dispatch([&](auto a) {
      set_scalars(a, alpha, gamma, min_temperature, gradient_scale);
      set_moments(a, parts);
      set_results(a, loss, statistics, gradient);
      a.sums = whole.const_data_ptr<std::remove_const_t<std::remove_pointer_t<decltype(a.sums)>>>();
      backend.finish(a);
    });
    return {loss, statistics, gradient};
  }

  static at::Tensor pu_loss_backward(const at::Tensor& gradient, const at::Tensor& upstream) {
    at::Tensor result = Backend::empty(gradient.sizes(), gradient.options());
    // Of one dimension or more, upstream takes part in the promotion: the product is made in float. As a scalar on
    // a GPU it would first be rounded to the dtype of the gradient, where a loss scale of 65536 is infinite.
    at::mul_out(result, gradient, gradient.is_cuda() ? upstream.reshape({1, 1}) : upstream);
    return result;
  }

  static void register_ops(torch::Library& m) {
    m.impl("pu_loss", pu_loss);
    m.impl("pu_loss_backward", pu_loss_backward);
    m.impl("pu_moments", pu_moments);
    m.impl("pu_probability_sums", pu_probability_sums);
    m.impl("pu_finish", pu_finish);
  }

 private:
  // Checked logits [B, C] and labels [B, C] with unit column stride.
  class Inputs {
   public:
    Inputs(const at::Tensor& logits, const at::Tensor& labels)
        : logits_(
              (check_logits(logits), check_labels(labels, logits), check_classes(logits), with_unit_columns(logits))),
          labels_(with_unit_columns(labels)) {}

    // A part of a batch may have no rows, but there are classes.
    static void check_classes(const at::Tensor& logits) {
      TORCH_CHECK_VALUE(logits.size(1) > 0, "logits: got shape ", logits.sizes(), ", wanted at least one class");
    }

    int64_t rows() const { return logits_.size(0); }
    int64_t columns() const { return logits_.size(1); }
    const at::Tensor& logits() const { return logits_; }

    at::Tensor accumulator(at::IntArrayRef shape) const {
      return at::empty(shape, logits_.options().dtype(accumulation_type(logits_)));
    }

    // Calls f with the arguments of the kernels for the dtype of the logits.
    template <typename F>
    void dispatch(const F& f) const {
      AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, logits_.scalar_type(), "pu_loss", [&] {
        PuLossArguments<scalar_t, Accumulation<scalar_t>> a{};
        a.logits = logits_.const_data_ptr<scalar_t>();
        a.logits_stride = logits_.stride(0);
        a.labels = labels_.const_data_ptr<int8_t>();
        a.labels_stride = labels_.stride(0);
        a.rows = rows();
        a.columns = columns();
        f(a);
      });
    }

   private:
    at::Tensor logits_;
    at::Tensor labels_;
  };

  static void check_moments(const at::Tensor& moments, const Inputs& in) {
    TORCH_CHECK_VALUE(moments.dim() == 3, "moments: got shape ", moments.sizes(), ", wanted [S, 4, C]");
    check_like("moments", moments, {moments.size(0), math::kPuMomentCount, in.columns()},
               accumulation_type(in.logits()), in.logits());
  }

  template <typename S, typename A>
  static void set_scalars(PuLossArguments<S, A>& a, double alpha, double gamma, double min_temperature,
                          double gradient_scale) {
    check_temperature(alpha, min_temperature);
    a.alpha = static_cast<A>(alpha);
    a.gamma = static_cast<A>(gamma);
    a.min_temperature = static_cast<A>(min_temperature);
    a.gradient_scale = static_cast<A>(gradient_scale);
  }

  template <typename S, typename A>
  static void set_moments(PuLossArguments<S, A>& a, const at::Tensor& parts) {
    a.moments = parts.const_data_ptr<A>();
    a.parts = parts.size(0);
  }

  template <typename S, typename A>
  static void set_results(PuLossArguments<S, A>& a, at::Tensor& loss, at::Tensor& statistics, at::Tensor& gradient) {
    a.loss = loss.mutable_data_ptr<A>();
    a.statistics = statistics.mutable_data_ptr<A>();
    a.gradient = gradient.mutable_data_ptr<S>();
  }
};

}  // namespace pumlc
