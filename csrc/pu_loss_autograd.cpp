// The derivative of pu_loss: the gradient that the forward pass made, times the upstream scalar. Written in
// C++ because at the sizes of a training step (35 x 80) calling a Python formula costs more than the kernels do.
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace pumlc {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

class PuLossFunction : public torch::autograd::Function<PuLossFunction> {
 public:
  // logits [B, C], labels [B, C] int8 -> loss [], statistics [5, C], gradient [B, C]
  static variable_list forward(AutogradContext* context, const at::Tensor& logits, const at::Tensor& labels,
                               double alpha, double gamma, double min_temperature, bool with_gradient) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("pumlc::pu_loss", "")
                               .typed<std::tuple<at::Tensor, at::Tensor, at::Tensor>(
                                   const at::Tensor&, const at::Tensor&, double, double, double, bool)>();
    const at::AutoDispatchBelowADInplaceOrView below;
    auto [loss, statistics, gradient] = op.call(logits, labels, alpha, gamma, min_temperature, with_gradient);
    context->save_for_backward({gradient});
    context->mark_non_differentiable({statistics, gradient});
    context->set_materialize_grads(false);
    return {loss, statistics, gradient};
  }

  // upstream [] of the loss -> gradient [B, C] of the logits
  static variable_list backward(AutogradContext* context, variable_list upstream) {
    static const auto op = c10::Dispatcher::singleton()
                               .findSchemaOrThrow("pumlc::pu_loss_backward", "")
                               .typed<at::Tensor(const at::Tensor&, const at::Tensor&)>();
    TORCH_CHECK(!at::GradMode::is_enabled(),  // on in a backward pass only with create_graph=True
                "pu_loss has no second derivative: its gradient is made in the forward pass. Use "
                "pumlc.ops.reference.pu_loss where you differentiate twice.");
    const at::Tensor none;
    if (!upstream[0].defined()) return {none, none, none, none, none, none};
    const at::Tensor gradient = context->get_saved_variables()[0];
    return {op.call(gradient, upstream[0]), none, none, none, none, none};
  }
};

std::tuple<at::Tensor, at::Tensor, at::Tensor> pu_loss(const at::Tensor& logits, const at::Tensor& labels, double alpha,
                                                       double gamma, double min_temperature, bool with_gradient) {
  const auto out = PuLossFunction::apply(logits, labels, alpha, gamma, min_temperature, with_gradient);
  return {out[0], out[1], out[2]};
}

}  // namespace

TORCH_LIBRARY_IMPL(pumlc, Autograd, m) { m.impl("pu_loss", pu_loss); }

}  // namespace pumlc
