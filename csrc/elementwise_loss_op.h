// The elementwise-loss op as the dispatcher sees it: checks, allocation, dispatch on dtype and kind of loss, the same
// for every device.
//
// Backend supplies the kernel:
//   Backend(tensor)          makes the tensor's device current, as long as it lives
//   empty(shape, options)    an uninitialised tensor that a kernel writes once
//   run(arguments, loss)     loss: one of math/elementwise_loss.h
#pragma once

#include <ATen/Dispatch.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cmath>
#include <limits>
#include <string_view>
#include <tuple>

#include "checks.h"
#include "elementwise_loss.h"

namespace pumlc {

template <typename Backend>
class ElementwiseLossOp {
 public:
  // logits [B, C], labels [B, C] int8 -> loss [], its gradient [B, C], or [0, C] where it is not wanted
  static std::tuple<at::Tensor, at::Tensor> elementwise_loss(const at::Tensor& logits, const at::Tensor& labels,
                                                             std::string_view kind, at::ArrayRef<double> parameters,
                                                             bool mean, bool with_gradient) {
    check_logits(logits);
    check_labels(labels, logits);
    check_not_empty(logits);
    const at::Tensor rows = with_unit_columns(logits);
    const at::Tensor labels_of_rows = with_unit_columns(labels);
    const Backend backend(logits);
    at::Tensor loss = at::empty({}, logits.options().dtype(accumulation_type(logits)));
    at::Tensor gradient = Backend::empty({with_gradient ? logits.size(0) : 0, logits.size(1)}, logits.options());
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, logits.scalar_type(), "elementwise_loss", [&] {
      using A = Accumulation<scalar_t>;
      ElementwiseLossArguments<scalar_t, A> a{};
      a.logits = rows.const_data_ptr<scalar_t>();
      a.logits_stride = rows.stride(0);
      a.labels = labels_of_rows.const_data_ptr<int8_t>();
      a.labels_stride = labels_of_rows.stride(0);
      a.rows = logits.size(0);
      a.columns = logits.size(1);
      if (rows.is_contiguous() && labels_of_rows.is_contiguous()) {  // rows that lie end to end are one
        a.columns *= a.rows;
        a.rows = 1;
      }
      a.divisor = mean ? static_cast<double>(logits.numel()) : 1.0;
      a.scale = static_cast<A>(1.0 / a.divisor);
      a.loss = loss.mutable_data_ptr<A>();
      a.gradient = with_gradient ? gradient.mutable_data_ptr<scalar_t>() : nullptr;
      with_loss<A>(kind, parameters, logits.size(1), [&](const auto& of_kind) { backend.run(a, of_kind); });
    });
    return {loss, gradient};
  }

  static void register_ops(torch::Library& m) { m.impl("elementwise_loss", elementwise_loss); }

 private:
  // Calls run(loss) with the loss of a name. parameters: those of pumlc.ops.LOSS_KINDS, in that order.
  template <typename A, typename Run>
  static void with_loss(std::string_view kind, at::ArrayRef<double> parameters, int64_t classes, const Run& run) {
    const auto wants = [&](size_t count) {
      TORCH_CHECK_VALUE(parameters.size() == count, "parameters: got ", parameters.size(), ", wanted the ", count,
                        " of ", kind);
    };
    const auto value = [&](size_t index) { return static_cast<A>(parameters[index]); };
    if (kind == "an") {
      wants(0);
      run(math::CrossEntropy<A>{A(0), A(1)});
    } else if (kind == "ignore") {
      wants(0);
      run(math::CrossEntropy<A>{A(0), A(0)});
    } else if (kind == "wan") {
      wants(0);
      TORCH_CHECK_VALUE(classes > 1, "logits: got one class, wanted at least two: wan divides by the others");
      run(math::CrossEntropy<A>{A(0), A(1) / static_cast<A>(classes - 1)});
    } else if (kind == "ls") {
      wants(1);
      run(math::CrossEntropy<A>{value(0), A(1)});
    } else if (kind == "focal") {
      wants(1);
      run(math::Focal<A>{value(0), A(0), std::numeric_limits<A>::infinity()});
    } else if (kind == "asl") {
      wants(3);
      run(math::Asymmetric<A>{value(0), value(1), value(2)});
    } else if (kind == "hill") {
      wants(3);
      run(math::Hill<A>{value(0), value(1), value(2)});
    } else if (kind == "splc") {
      wants(4);
      const double tau = parameters[2];
      const bool corrects = parameters[3] != 0.0;
      const double threshold = corrects ? std::log(tau / (1.0 - tau)) : std::numeric_limits<double>::infinity();
      run(math::Focal<A>{value(1), value(0), static_cast<A>(threshold)});
    } else if (kind == "em") {
      wants(1);
      run(math::Entropy<A>{value(0)});
    } else if (kind == "gr") {
      wants(6);
      run(math::Robust<A>{value(0), value(1), value(2), value(3), value(4), value(5)});
    } else {
      TORCH_CHECK_VALUE(false, "kind: got ", kind, ", wanted one of pumlc.ops.LOSS_KINDS");
    }
  }
};

}  // namespace pumlc
