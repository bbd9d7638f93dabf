// The large-loss op as the dispatcher sees it: checks, allocation and dtype dispatch, the same for every device.
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

#include <algorithm>
#include <tuple>

#include "checks.h"
#include "large_loss.h"

namespace pumlc {

template <typename Backend>
class LargeLossOp {
 public:
  // logits [B, C], labels [B, C] int8
  // -> loss [], corrected [B, C] bool, gradient [B, C], or [0, C] where it is not wanted
  static std::tuple<at::Tensor, at::Tensor, at::Tensor> large_loss(const at::Tensor& logits, const at::Tensor& labels,
                                                                   int64_t k, bool corrects, bool with_gradient) {
    check(logits, labels, k);
    const at::Tensor rows = with_unit_columns(logits);
    const at::Tensor labels_of_rows = with_unit_columns(labels);
    const Backend backend(logits);
    at::Tensor loss = at::empty({}, logits.options().dtype(accumulation_type(logits)));
    at::Tensor corrected = Backend::empty(logits.sizes(), logits.options().dtype(at::kBool));
    at::Tensor gradient = Backend::empty({with_gradient ? logits.size(0) : 0, logits.size(1)}, logits.options());
    const bool has_gaps = !rows.is_contiguous() || !labels_of_rows.is_contiguous();
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, logits.scalar_type(), "large_loss", [&] {
      using A = Accumulation<scalar_t>;
      LargeLossArguments<scalar_t, A> a{};
      a.logits = rows.const_data_ptr<scalar_t>();
      a.logits_stride = rows.stride(0);
      a.labels = labels_of_rows.const_data_ptr<int8_t>();
      a.labels_stride = labels_of_rows.stride(0);
      a.rows = has_gaps ? logits.size(0) : 1;
      a.columns = has_gaps ? logits.size(1) : logits.numel();
      a.k = std::min(k, logits.numel());
      a.corrects = corrects;
      a.loss = loss.mutable_data_ptr<A>();
      a.corrected = corrected.mutable_data_ptr<bool>();
      a.gradient = with_gradient ? gradient.mutable_data_ptr<scalar_t>() : nullptr;
      backend.run(a);
    });
    return {loss, corrected, gradient};
  }

  static void register_ops(torch::Library& m) { m.impl("large_loss", large_loss); }

 private:
  static void check(const at::Tensor& logits, const at::Tensor& labels, int64_t k) {
    check_logits(logits);
    check_labels(labels, logits);
    TORCH_CHECK_VALUE(logits.numel() > 0, "logits: got shape ", logits.sizes(),
                      ", wanted at least one row and one class: the mean of no losses is undefined");
    TORCH_CHECK_VALUE(k >= 0, "k: got ", k, ", wanted at least 0");
  }
};

}  // namespace pumlc
