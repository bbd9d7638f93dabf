// Every op of the extension, with the shapes of its tensors. B rows (images), C classes, S parts of a batch.
// Also the Python module _C, which holds nothing but the facts of the build.
#include <pybind11/pybind11.h>
#include <torch/library.h>

#include "cpu/kernels.h"

TORCH_LIBRARY(pumlc, m) {
  // logits [B, C], labels [B, C] int8
  // -> loss [], statistics [5, C], gradient of the loss [B, C] (or [0, C] where it is not wanted)
  m.def(
      "pu_loss(Tensor logits, Tensor labels, float alpha, float gamma, float min_temperature, "
      "bool with_gradient) -> (Tensor loss, Tensor statistics, Tensor gradient)");

  // gradient [B, C], upstream [] -> their product [B, C] in the dtype of gradient
  m.def("pu_loss_backward(Tensor gradient, Tensor upstream) -> Tensor");

  // The forward pass in three phases, so that statistics can be summed over a process group between them.
  // logits [B, C], labels [B, C] int8 -> moments [1, 4, C] of this part of the batch
  m.def("pu_moments(Tensor logits, Tensor labels) -> Tensor");
  // moments [S, 4, C] of all parts -> probability sums [2, C] of this part
  m.def(
      "pu_probability_sums(Tensor logits, Tensor labels, Tensor moments, float alpha, float min_temperature) "
      "-> Tensor");
  // sums [2, C] over all parts -> loss [] and statistics [5, C] of the whole batch, gradient [B, C] of this part
  m.def(
      "pu_finish(Tensor logits, Tensor labels, Tensor moments, Tensor sums, float alpha, float gamma, "
      "float min_temperature, float gradient_scale) -> (Tensor loss, Tensor statistics, Tensor gradient)");

  // logits [B, C], labels [B, C] int8, mixed_logits [h, C], permutation [h] int64 with h = ceil(B / 2), mix []
  // -> loss [], gradients of the loss by the logits [B, C] and the mixed logits [h, C], each [0, C] where not wanted
  m.def(
      "mixup_consistency(Tensor logits, Tensor labels, Tensor mixed_logits, Tensor permutation, Tensor mix, "
      "float eps, bool with_gradient, bool with_mixed_gradient) "
      "-> (Tensor loss, Tensor gradient, Tensor mixed_gradient)");

  // logits [B, C], labels [B, C] int8, parameters of the kind in the order of math/elementwise_loss.h
  // -> loss [], gradient of the loss [B, C] (or [0, C] where it is not wanted)
  m.def(
      "elementwise_loss(Tensor logits, Tensor labels, str kind, float[] parameters, bool mean, bool with_gradient) "
      "-> (Tensor loss, Tensor gradient)");

  // logits [B, C], labels [B, C] int8; k unobserved entries are rejected or, where `corrects`, corrected
  // -> loss [], which entries those are [B, C] bool, gradient of the loss [B, C] (or [0, C] where it is not wanted)
  m.def(
      "large_loss(Tensor logits, Tensor labels, int k, bool corrects, bool with_gradient) "
      "-> (Tensor loss, Tensor corrected, Tensor gradient)");

  // x [B, C, H, W], scores [B, K, H, W] -> pooled [B, K, C], or [B, C] where grouped; means, pooled before it was
  // rounded to the dtype of x, or [0] where it was not; statistics [B, 2, K] of the softmax
  m.def("attention_pool(Tensor x, Tensor scores, bool grouped) -> (Tensor pooled, Tensor means, Tensor statistics)");
  // upstream [B, K, C] or [B, C], means (pooled where they are [0]) -> gradients of x and of scores
  m.def(
      "attention_pool_backward(Tensor upstream, Tensor x, Tensor scores, Tensor means, Tensor statistics, "
      "bool grouped) -> (Tensor, Tensor)");
  // The same, and the gradient of x is added to x_gradient [B, C, H, W], channels_last -> gradient of scores
  m.def(
      "attention_pool_backward_(Tensor(a!) x_gradient, Tensor upstream, Tensor x, Tensor scores, Tensor means, "
      "Tensor statistics, bool grouped) -> Tensor");

  // y [B, O, H, W], u [B, O, K], gate_scores [B, K, H', W'], scale [O], shift [O] -> [B, O, H, W]
  m.def(
      "gated_broadcast_add(Tensor y, Tensor u, Tensor gate_scores, Tensor scale, Tensor shift, int stride) -> Tensor");
  // upstream [B, O, H, W] -> gradients of u [B, O, K], gate_scores [B, K, H', W'], scale [O] and shift [O]
  m.def(
      "gated_broadcast_add_backward(Tensor upstream, Tensor u, Tensor gate_scores, Tensor scale, int stride) "
      "-> (Tensor, Tensor, Tensor, Tensor)");
  // Depthwise convolution with padding K / 2; with a context, the local-global form (csrc/math/depthwise.h).
  // x [B, C, H, W], weight [C, 1, K, K], context [B, C], gate_scores [B, heads, H, W], centre [C], shift [C]
  // -> y [B, C, Ho, Wo], Ho = ceil(H / stride), Wo = ceil(W / stride)
  m.def(
      "depthwise(Tensor x, Tensor weight, Tensor? context, Tensor? gate_scores, Tensor? centre, Tensor? shift, "
      "int stride) -> Tensor");
  // dy [B, C, Ho, Wo] -> a gradient of the shape and dtype of each input, [0] where it is not wanted
  m.def(
      "depthwise_backward(Tensor dy, Tensor x, Tensor weight, Tensor? context, Tensor? gate_scores, Tensor? centre, "
      "Tensor? shift, int stride, bool need_dx, bool need_dweight, bool need_dglobal) -> (Tensor dx, Tensor dweight, "
      "Tensor dcontext, Tensor dgate_scores, Tensor dcentre, Tensor dshift)");

  // features [B, P, D], words [C, D], v [D] -> [B, C, P]
  m.def("semantic_attention(Tensor features, Tensor words, Tensor v) -> Tensor");
  // upstream [B, C, P] -> gradients of features [B, P, D], words [C, D] and v [D]
  m.def(
      "semantic_attention_backward(Tensor upstream, Tensor features, Tensor words, Tensor v) "
      "-> (Tensor, Tensor, Tensor)");
}

PYBIND11_MODULE(_C, m) {
  m.def("build_info", [] {
    pybind11::dict info;
#if defined(PUMLC_CUDA_ARCHITECTURES)
    info["cuda"] = true;
    info["cuda_architectures"] = PUMLC_CUDA_ARCHITECTURES;
#else
    info["cuda"] = false;
    info["cuda_architectures"] = pybind11::none();
#endif
    info["torch"] = PUMLC_TORCH_VERSION;
    info["compiler"] = __VERSION__;
    info["cpu_instruction_set"] = pumlc::cpu::kernels().instruction_set;
    return info;
  });
}
