// The semantic-attention ops as the dispatcher sees them: checks, allocation and dtype dispatch, the same for every
// device.
//
// Backend supplies the kernels:
//   Backend(tensor)                            makes the tensor's device current, as long as it lives
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
#include "semantic_attention.h"

namespace pumlc {

template <typename Backend>
class SemanticAttentionOp {
 public:
  // features [B, P, D], words [C, D], v [D] -> [B, C, P] of the dtype of features
  static at::Tensor semantic_attention(const at::Tensor& features, const at::Tensor& words, const at::Tensor& v) {
    check_inputs(features, words, v);
    const Inputs inputs(features, words, v);
    const Backend backend(features);
    at::Tensor out = at::empty({features.size(0), words.size(0), features.size(1)}, features.options());
    dispatch(inputs, [&](auto a) {
      a.out = out.mutable_data_ptr<std::remove_pointer_t<decltype(a.out)>>();
      backend.forward(a);
    });
    return out;
  }

  // upstream [B, C, P], the others as above -> gradients of features [B, P, D], words [C, D] and v [D], the last two in
  // the dtype that sums are taken in
  static std::tuple<at::Tensor, at::Tensor, at::Tensor> semantic_attention_backward(const at::Tensor& upstream,
                                                                                    const at::Tensor& features,
                                                                                    const at::Tensor& words,
                                                                                    const at::Tensor& v) {
    check_inputs(features, words, v);
    check_beside("upstream", upstream, {features.size(0), words.size(0), features.size(1)}, features.scalar_type(),
                 "features", features);
    const Inputs inputs(features, words, v);
    const at::Tensor gradient = upstream.contiguous();
    const auto accumulator = features.options().dtype(accumulation_type(features));
    const Backend backend(features);
    at::Tensor features_gradient = at::empty(features.sizes(), features.options());
    at::Tensor words_gradient = at::empty(words.sizes(), accumulator);
    at::Tensor v_gradient = at::empty(v.sizes(), accumulator);
    if (features.size(0) == 0) {
      backend.clear(words_gradient);
      backend.clear(v_gradient);
    }
    dispatch(inputs, [&](auto a) {
      using S = std::remove_pointer_t<decltype(a.out)>;
      using A = std::remove_pointer_t<decltype(a.words_gradient)>;
      a.upstream = gradient.const_data_ptr<S>();
      a.features_gradient = features_gradient.mutable_data_ptr<S>();
      a.words_gradient = words_gradient.mutable_data_ptr<A>();
      a.v_gradient = v_gradient.mutable_data_ptr<A>();
      backend.backward(a);
    });
    return {features_gradient, words_gradient, v_gradient};
  }

  static void register_ops(torch::Library& m) {
    m.impl("semantic_attention", semantic_attention);
    m.impl("semantic_attention_backward", semantic_attention_backward);
  }

 private:
  // The inputs as the kernels read them: copies only where they are laid out otherwise, or words and v of another dtype
  // than sums are taken in.
  struct Inputs {
    Inputs(const at::Tensor& features, const at::Tensor& words, const at::Tensor& v)
        : features(features.contiguous()),
          words(words.to(accumulation_type(features)).contiguous()),
          v(v.to(accumulation_type(features)).contiguous()) {}
    at::Tensor features;
    at::Tensor words;
    at::Tensor v;
  };

  static void check_inputs(const at::Tensor& features, const at::Tensor& words, const at::Tensor& v) {
    TORCH_CHECK_VALUE(features.dim() == 3 && features.size(1) > 0 && features.size(2) > 0, "features: got shape ",
                      features.sizes(), ", wanted [B, P, D] with at least one position and one dimension");
    check_floating("features", features);
    TORCH_CHECK_VALUE(words.dim() == 2 && words.size(0) > 0 && words.size(1) == features.size(2), "words: got shape ",
                      words.sizes(), ", wanted [C, ", features.size(2), "] with at least one class beside features, ",
                      features.sizes());
    check_floating("words", words);
    check_same_device("words", words, "features", features);
    check_floating("v", v);
    check_beside("v", v, {features.size(2)}, v.scalar_type(), "features", features);
  }

  // Calls f with the arguments of the kernels for the dtype of the features, unless there is no image.
  template <typename F>
  static void dispatch(const Inputs& inputs, const F& f) {
    const at::Tensor& features = inputs.features;
    if (features.size(0) == 0) return;
    AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, features.scalar_type(), "semantic_attention", [&] {
      using A = Accumulation<scalar_t>;
      SemanticAttentionArguments<scalar_t, A> a{};
      a.images = features.size(0);
      a.positions = features.size(1);
      a.classes = inputs.words.size(0);
      a.dimensions = features.size(2);
      a.features = features.const_data_ptr<scalar_t>();
      a.words = inputs.words.template const_data_ptr<A>();
      a.v = inputs.v.template const_data_ptr<A>();
      f(a);
    });
  }
};

}  // namespace pumlc
