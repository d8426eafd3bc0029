// What every .cu file includes first. The same source is compiled
//   - by nvcc (C++17) for the hardware: cuda/hardware.h;
//   - by g++ (C++20, -x c++ -DRECSYS_FAST_EMULATED_GRID) for the emulated grid of testing/, which runs kernels on the
//     CPU and watches them. tests/emulated builds it.
//
// Rules, without which the emulated grid sees nothing:
//   launch(kernel, grid, block, shared_bytes, stream, arguments...)  never <<<>>>; `kernel` is a __global__ function
//   RF_SHARED(float, tile, 64 * 33);          static shared array `tile`, of type Shared<float>
//   RF_DYNAMIC_SHARED(float, scratch);        the dynamic shared memory of the launch, also a Shared<float>
//   Shared<T>: a[i] loads and stores whole elements (float x = a[i], never auto); a + n; a.as<float4>(); &a[i] only as
//   an argument of an atomic function; a.data() is a raw pointer that nobody watches (for wrapped PTX only).
//   Every lane of a full mask must come: in the last, short warp of a block use a whole number of warps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "core/device.h"
#include "core/errors.h"

#ifdef RECSYS_FAST_EMULATED_GRID
#include "testing/cuda_names.h"
#include "testing/runtime.h"
#else
#include "cuda/hardware.h"
#endif

namespace recsys_fast {

constexpr unsigned kFullMask = 0xffffffffu;

// Device memory of n elements, freed in stream order. Throws DeviceOutOfMemory. What is in it is undefined (NaN on the
// emulated grid).
template <class T>
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  explicit DeviceBuffer(int64_t n, Stream stream = current_stream())
      : data_(n > 0 ? static_cast<T*>(device_allocate(static_cast<size_t>(n) * sizeof(T), stream)) : nullptr),
        n_(n),
        stream_(stream) {}
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), n_(std::exchange(other.n_, 0)), stream_(other.stream_) {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(n_, other.n_);
    std::swap(stream_, other.stream_);
    return *this;
  }
  ~DeviceBuffer() {
    if (data_ != nullptr) device_free(data_, stream_);
  }

  T* data() const { return data_; }
  int64_t size() const { return n_; }

 private:
  T* data_ = nullptr;
  int64_t n_ = 0;
  Stream stream_{};
};

template <class T>
void copy_to_device(T* out, const T* in, int64_t n, Stream stream = current_stream()) {
  if (n > 0) copy_bytes_to_device(out, in, static_cast<size_t>(n) * sizeof(T), stream);
}

// Returns when the numbers are there, which includes all work put on the stream before.
template <class T>
void copy_to_host(T* out, const T* in, int64_t n, Stream stream = current_stream()) {
  if (n > 0) copy_bytes_to_host(out, in, static_cast<size_t>(n) * sizeof(T), stream);
}

// One element, for sizes that the host must know.
template <class T>
T read_element(const T* in, Stream stream = current_stream()) {
  T out;
  copy_to_host(&out, in, 1, stream);
  return out;
}

template <class T>
void copy_on_device(T* out, const T* in, int64_t n, Stream stream = current_stream()) {
  if (n > 0) copy_bytes_on_device(out, in, static_cast<size_t>(n) * sizeof(T), stream);
}

template <class T>
void fill_zero(T* out, int64_t n, Stream stream = current_stream()) {
  if (n > 0) zero_bytes(out, static_cast<size_t>(n) * sizeof(T), stream);
}

// Blocks of `block` threads that cover n; at least one, at most what a grid's x can hold.
inline unsigned blocks_for(int64_t n, int64_t block) {
  const int64_t blocks = (n + block - 1) / block;
  return static_cast<unsigned>(blocks < 1 ? 1 : blocks > 0x7fffffff ? 0x7fffffff : blocks);
}

}  // namespace recsys_fast
