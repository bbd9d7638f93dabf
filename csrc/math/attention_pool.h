// Attention pooling: means of the positions p of a feature map x [P, C], weighted by a softmax per head k (the global
// branch of the local-global convolution, PU-MLC, arXiv 2306.16016).
//
//   A_k(p) = softmax over p of s_k(p) = e^(s_k(p) - m_k) / l_k      m_k = max_p s_k(p),  l_k = sum_p e^(s_k(p) - m_k)
//   out_kc = sum_p A_k(p) x_pc
// and with g = dL/dout:
//   dL/dx_pc  = sum_k A_k(p) g_kc
//   dL/ds_kp  = A_k(p) (d_k(p) - D_k)       d_k(p) = sum_c g_kc x_pc,  D_k = sum_p A_k(p) d_k(p) = sum_c g_kc out_kc
// Grouped, channel c is pooled under its own head alone: g_kc is 0 for all other k.
#pragma once

#include <limits>

#include "elementary.h"

namespace pumlc::math {

// e^(score - largest), for score <= largest. Where all scores are -inf so is the largest, and the term is 0.
template <typename T>
PUMLC_HOST_DEVICE T softmax_term(T score, T largest) {
  return exp_nonpositive(score - (largest == -std::numeric_limits<T>::infinity() ? T(0) : largest));
}

// dL/ds_k(p) from A_k(p), d_k(p) and D_k.
template <typename T>
PUMLC_HOST_DEVICE T softmax_gradient(T weight, T dot, T mean_dot) {
  return weight * (dot - mean_dot);
}

}  // namespace pumlc::math
