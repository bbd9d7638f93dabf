// Included before csrc/cuda/*.cpp or csrc/cpu/*.cpp: their ops are not registered when the library is loaded, but when
// binding.cpp is asked to, in place of the CPU kernels of the installed extension.
#pragma once

#include <torch/library.h>

#include <vector>

namespace pumlc::testing {

using Register = void (*)(torch::Library&);
std::vector<Register>& registrations();

struct Registration {
  explicit Registration(Register function) { registrations().push_back(function); }
};

}  // namespace pumlc::testing

#undef TORCH_LIBRARY_IMPL
#define TORCH_LIBRARY_IMPL(name, key, library)                                              \
  static void register_for_testing(torch::Library&);                                        \
  static const ::pumlc::testing::Registration registered_for_testing(register_for_testing); \
  static void register_for_testing(torch::Library& library)
