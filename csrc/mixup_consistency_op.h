// The mixup-consistency op as the dispatcher sees it: checks, allocation and dtype dispatch, the same for every device.
//
// Backend supplies the kernel:
//   Backend(tensor)          makes the tensor's device current, as long as it lives
//   empty(shape, options)    an uninitialised tensor that a kernel writes once
//   run(arguments)
#pragma once

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <tuple>

#include "checks.h"
#include "mixup_consistency.h"

namespace pumlc {

template <typename Backend>
class MixupConsistencyOp {
 public:
  // logits [B, C], labels [B, C] int8, mixed_logits [h, C], permutation [h] int64, mix []
  // -> loss [], gradients by logits [B, C] and mixed_logits [h, C], or [0, C] where they are not wanted
  static std::tuple<at::Tensor, at::Tensor, at::Tensor> mixup_consistency(
      const at::Tensor& logits, const at::Tensor& labels, const at::Tensor& mixed_logits, const at::Tensor& permutation,
      const at::Tensor& mix, double eps, bool with_gradient, bool with_mixed_gradient) {
    check(logits, labels, mixed_logits, permutation, mix, eps);
    const at::Tensor rows = with_unit_columns(logits);
    const at::Tensor labels_of_rows = with_unit_columns(labels);
    const at::Tensor mixed_rows = with_unit_columns(mixed_logits);
    const at::Tensor order = permutation.contiguous();
    const at::Tensor share = mix.to(accumulation_type(logits));
    const Backend backend(logits);
    at::Tensor loss = at::empty({}, logits.options().dtype(accumulation_type(logits)));
    at::Tensor gradient = Backend::empty({with_gradient ? logits.size(0) : 0, logits.size(1)}, logits.options());
    at::Tensor mixed_gradient =
        Backend::empty({with_mixed_gradient ? mixed_logits.size(0) : 0, logits.size(1)}, logits.options());
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, logits.scalar_type(), "mixup_consistency", [&] {
      using A = Accumulation<scalar_t>;
      MixupConsistencyArguments<scalar_t, A> a{};
      a.logits = rows.const_data_ptr<scalar_t>();
      a.logits_stride = rows.stride(0);
      a.labels = labels_of_rows.const_data_ptr<int8_t>();
      a.labels_stride = labels_of_rows.stride(0);
      a.mixed = mixed_rows.const_data_ptr<scalar_t>();
      a.mixed_stride = mixed_rows.stride(0);
      a.permutation = order.const_data_ptr<int64_t>();
      a.mix = share.const_data_ptr<A>();
      a.rows = logits.size(0);
      a.columns = logits.size(1);
      a.epsilon = static_cast<A>(eps);
      a.loss = loss.mutable_data_ptr<A>();
      a.gradient = with_gradient ? gradient.mutable_data_ptr<scalar_t>() : nullptr;
      a.mixed_gradient = with_mixed_gradient ? mixed_gradient.mutable_data_ptr<scalar_t>() : nullptr;
      backend.run(a);
    });
    return {loss, gradient, mixed_gradient};
  }

  static void register_ops(torch::Library& m) { m.impl("mixup_consistency", mixup_consistency); }

 private:
  static void check(const at::Tensor& logits, const at::Tensor& labels, const at::Tensor& mixed_logits,
                    const at::Tensor& permutation, const at::Tensor& mix, double eps) {
    check_logits(logits);
    check_labels(labels, logits);
    TORCH_CHECK_VALUE(logits.size(0) >= 2 && logits.size(1) > 0, "logits: got shape ", logits.sizes(),
                      ", wanted at least two rows, which mixup pairs, and one class");
    const int64_t pairs = (logits.size(0) + 1) / 2;
    check_beside("mixed_logits", mixed_logits, {pairs, logits.size(1)}, logits.scalar_type(), "logits", logits);
    check_beside("permutation", permutation, {pairs}, at::kLong, "logits", logits);
    check_floating("mix", mix);
    check_like("mix", mix, {}, mix.scalar_type(), logits);
    TORCH_CHECK_VALUE(eps >= 1e-30 && eps <= 1e-2, "eps: got ", eps,
                      ", wanted at least 1e-30, which float32 holds, and at most 0.01");
  }
};

}  // namespace pumlc
