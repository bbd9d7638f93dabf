// Puts the ops of this library in the place of the installed extension's CPU kernels, and takes them back.
#include <c10/util/Exception.h>

#include <memory>

#include "registration.h"

namespace pumlc::testing {

std::vector<Register>& registrations() {
  static std::vector<Register> functions;
  return functions;
}

namespace {

// The dispatcher tells everyone that a kernel is replaced; here it is meant to be.
struct Silent : c10::WarningHandler {
  void process(const c10::Warning&) override {}
};

std::unique_ptr<torch::Library> library;

}  // namespace
}  // namespace pumlc::testing

extern "C" __attribute__((visibility("default"))) void pumlc_install() {
  using namespace pumlc::testing;
  Silent silent;
  const c10::WarningUtils::WarningHandlerGuard guard(&silent);
  library = std::make_unique<torch::Library>(torch::Library::IMPL, "pumlc", c10::DispatchKey::CPU, __FILE__, __LINE__);
  for (const Register function : registrations()) function(*library);
}

extern "C" __attribute__((visibility("default"))) void pumlc_uninstall() { pumlc::testing::library.reset(); }
