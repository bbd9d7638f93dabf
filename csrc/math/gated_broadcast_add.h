// Gated broadcast-add: K vectors per image, each spread over the positions by its gate (the global branch of the
// local-global convolution, PU-MLC, arXiv 2306.16016).
//
//   out_po = y_po + sum_k S_k(p) v_ko + t_o       S_k(p) = sigma(b_k(p)),  v_ko = s_o u_ok,  s scale, t shift
// and with g = dL/dout, which is also dL/dy:
//   M_ko     = sum_p S_k(p) g_po                  dL/du_ok = s_o M_ko,  dL/ds_o = sum over images and k of u_ok M_ko
//   dL/db_kp = S_k(p) (1 - S_k(p)) d_k(p)         d_k(p) = sum_o g_po v_ko
//   dL/dt_o  = sum over images and p of g_po
#pragma once

#include "elementary.h"

namespace pumlc::math {

// The gate of a score.
template <typename T>
PUMLC_HOST_DEVICE T gate(T score) {
  return sigmoid_pair(score).p;
}

// Derivative of the gate by its score.
template <typename T>
PUMLC_HOST_DEVICE T gate_slope(T score) {
  const SigmoidPair<T> s = sigmoid_pair(score);
  return s.p * s.q;
}

}  // namespace pumlc::math
