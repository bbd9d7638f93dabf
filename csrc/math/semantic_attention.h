// Semantic attention: how much each position p of an image's features f [P, D] has to do with each word e [C, D] (the
// semantic decoupling of the recogniser, PU-MLC, arXiv 2306.16016).
//
//   out_cp = sum_d v_d t_cpd       t_cpd = tanh(f_pd e_cd)
// and with g = dL/dout and s_cpd = 1 - t_cpd^2:
//   dL/df_pd = v_d sum_c g_cp s_cpd e_cd
//   dL/de_cd = v_d sum over images and p of g_cp s_cpd f_pd
//   dL/dv_d  = sum over images, p and c of g_cp t_cpd
// T below is a number, or on the CPU a register of them.
#pragma once

#include "elementary.h"

namespace pumlc::math {

// What one element adds to the three gradients; those of f and e still lack v_d.
template <typename T>
struct SemanticGradient {
  T feature;
  T word;
  T v;
};

// upstream g; pair: tanh of feature * word and its slope
template <typename A, typename T>
PUMLC_HOST_DEVICE SemanticGradient<T> semantic_gradient(A upstream, T feature, T word, const TanhPair<T>& pair) {
  const T common = pair.slope * upstream;
  return {common * word, common * feature, pair.value * upstream};
}

}  // namespace pumlc::math
