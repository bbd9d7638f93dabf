// What g++ -fsanitize=thread calls before every load and store. The kernels are compiled so, and not linked with that
// sanitizer: these are its functions here. Under AddressSanitizer nothing calls them.
#include "emulator.h"

#define PUMLC_HOOK(name, size, write, aligned)                                                        \
  extern "C" void __tsan_##name(void* address) {                                                      \
    pumlc::emulator::check_access(address, size, write, false, aligned, __builtin_return_address(0)); \
  }
#define PUMLC_HOOKS(size)                              \
  PUMLC_HOOK(read##size, size, false, true)            \
  PUMLC_HOOK(write##size, size, true, true)            \
  PUMLC_HOOK(unaligned_read##size, size, false, false) \
  PUMLC_HOOK(unaligned_write##size, size, true, false)
PUMLC_HOOKS(1)
PUMLC_HOOKS(2)
PUMLC_HOOKS(4)
PUMLC_HOOKS(8)
PUMLC_HOOKS(16)
extern "C" void __tsan_read_range(void* address, size_t size) {
  pumlc::emulator::check_access(address, size, false, false, false, __builtin_return_address(0));
}
extern "C" void __tsan_write_range(void* address, size_t size) {
  pumlc::emulator::check_access(address, size, true, false, false, __builtin_return_address(0));
}
extern "C" void __tsan_vptr_update(void** address, void*) {
  pumlc::emulator::check_access(address, sizeof(void*), true, false, true, __builtin_return_address(0));
}
extern "C" void __tsan_func_entry(void*) {}
extern "C" void __tsan_func_exit() {}
extern "C" void __tsan_init() {}
