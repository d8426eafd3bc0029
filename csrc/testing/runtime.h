// The runtime side of cuda/kernel.h on the emulated grid: memory is the host's, a stream does its work at once.
#pragma once

#include <cstring>
#include <string>

#include "core/device_errors.h"
#include "testing/cuda_names.h"
#include "testing/grid.h"

namespace recsys_fast {

struct Stream {
  void* handle = nullptr;
};

inline Stream& current_stream() {
  static thread_local Stream stream;
  return stream;
}

// Throws Interrupted where the caller wants to stop; interrupt.cu.
void check_interrupt();

inline void check_not_lost() {
  if (emulated::lost()) throw DeviceLost("kernel launch: cudaErrorLaunchFailure (injected)");
}

inline void* device_allocate(size_t bytes, Stream) {
  void* memory = emulated::allocate(bytes, emulated::pretend().device);
  if (memory == nullptr) throw DeviceOutOfMemory(bytes, emulated::free_bytes());
  return memory;
}
inline void device_free(void* memory, Stream) noexcept { emulated::release(memory); }
inline void synchronize(Stream = {}) {
  ++emulated::counts().waits;
  check_interrupt();
  check_not_lost();
}
inline void copy_bytes_to_device(void* out, const void* in, size_t bytes, Stream) { std::memcpy(out, in, bytes); }
inline void copy_bytes_to_host(void* out, const void* in, size_t bytes, Stream stream) {
  synchronize(stream);
  std::memcpy(out, in, bytes);
}
inline void copy_bytes_on_device(void* out, const void* in, size_t bytes, Stream) { std::memcpy(out, in, bytes); }
inline void zero_bytes(void* out, size_t bytes, Stream) { std::memset(out, 0, bytes); }
inline int n_multiprocessors() { return 2; }
inline void check_on_device(const void* data, const char* name) {
  const int found = emulated::device_of(data), device = emulated::pretend().device;
  const std::string expected = "expected one on cuda:" + std::to_string(device);
  if (found < 0) throw DeviceFailure(std::string(name) + ": got host memory, " + expected);
  if (found != device) {
    throw DeviceFailure(std::string(name) + ": got an array on cuda:" + std::to_string(found) + ", " + expected);
  }
}

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, Stream, A&&... arguments) {
  const uint64_t threads = uint64_t{block.x} * block.y * block.z;
  if (threads == 0 || threads > 1024 || block.z > 64 || grid.x == 0 || grid.y == 0 || grid.z == 0 ||
      grid.x > 0x7fffffff || grid.y > 65535 || grid.z > 65535 || shared_bytes > (163 << 10)) {
    throw DeviceFailure("kernel launch: cudaErrorInvalidConfiguration (" + std::to_string(threads) +
                        " threads, grid (" + std::to_string(grid.x) + ", " + std::to_string(grid.y) + ", " +
                        std::to_string(grid.z) + "), " + std::to_string(shared_bytes) + " bytes of shared memory)");
  }
  check_interrupt();
  check_not_lost();
  if (!emulated::take_launch()) {
    check_not_lost();
    throw DeviceFailure("kernel launch: cudaErrorLaunchOutOfResources (injected)");
  }
  const emulated::LaunchShape shape = {{grid.x, grid.y, grid.z}, {block.x, block.y, block.z}, shared_bytes};
  emulated::run_grid(shape, [&] { kernel(static_cast<P>(arguments)...); });
}

}  // namespace recsys_fast
