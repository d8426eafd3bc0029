// The hardware side of cuda/kernel.h: the CUDA runtime, whose failures become DeviceFailure.
#pragma once

#include <cuda_runtime.h>

#include <chrono>
#include <string>
#include <thread>

#include "core/device_errors.h"

namespace recsys_fast {

struct Stream {
  cudaStream_t handle = nullptr;
};

// The stream of the operations that the calling OS thread starts. Null: the one that CuPy and PyTorch use by default.
inline Stream& current_stream() {
  static thread_local Stream stream;
  return stream;
}

// Errors after which every call fails, until the process ends.
inline bool is_sticky(cudaError_t status) {
  switch (status) {
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidPc:
    case cudaErrorHardwareStackError:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorAssert:
    case cudaErrorECCUncorrectable:
      return true;
    default:
      return false;
  }
}

inline void check_cuda(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // an error that is not sticky is reported once
  const std::string text =
      std::string(what) + ": " + cudaGetErrorName(status) + " (" + cudaGetErrorString(status) + ")";
  if (is_sticky(status)) throw DeviceLost(text);
  throw DeviceFailure(text);
}

inline void* device_allocate(size_t bytes, Stream stream) {
  void* memory = nullptr;
  const cudaError_t status = cudaMallocAsync(&memory, bytes, stream.handle);
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    throw DeviceOutOfMemory(bytes, free);
  }
  check_cuda(status, "cudaMallocAsync");
  return memory;
}

inline void device_free(void* memory, Stream stream) noexcept { cudaFreeAsync(memory, stream.handle); }

// Throws Interrupted where the caller wants to stop; interrupt.cu.
void check_interrupt();

// Waits for the stream, at first busily, and for Ctrl-C, which leaves the device at work on what it has been given.
inline void synchronize(Stream stream = current_stream()) {
  using Clock = std::chrono::steady_clock;
  const auto patient = Clock::now() + std::chrono::milliseconds(2);
  cudaError_t status;
  while ((status = cudaStreamQuery(stream.handle)) == cudaErrorNotReady) {
    cudaGetLastError();  // "not ready" counts as one
    check_interrupt();
    if (Clock::now() > patient) std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
  check_cuda(status, "cudaStreamQuery");
}

inline void copy_bytes_to_device(void* out, const void* in, size_t bytes, Stream stream) {
  check_cuda(cudaMemcpyAsync(out, in, bytes, cudaMemcpyHostToDevice, stream.handle), "copy to the device");
}

inline void copy_bytes_to_host(void* out, const void* in, size_t bytes, Stream stream) {
  synchronize(stream);  // a copy to pageable memory would wait where nobody asks about Ctrl-C
  check_cuda(cudaMemcpyAsync(out, in, bytes, cudaMemcpyDeviceToHost, stream.handle), "copy to the host");
  check_cuda(cudaStreamSynchronize(stream.handle), "cudaStreamSynchronize");
}

inline void copy_bytes_on_device(void* out, const void* in, size_t bytes, Stream stream) {
  check_cuda(cudaMemcpyAsync(out, in, bytes, cudaMemcpyDeviceToDevice, stream.handle), "copy on the device");
}

inline void zero_bytes(void* out, size_t bytes, Stream stream) {
  check_cuda(cudaMemsetAsync(out, 0, bytes, stream.handle), "cudaMemsetAsync");
}

// Multiprocessors of the current device, to size grids that stride; a result must not depend on it.
inline int n_multiprocessors() {
  int device = 0, n = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaDeviceGetAttribute(&n, cudaDevAttrMultiProcessorCount, device), "cudaDeviceGetAttribute");
  return n;
}

// Refuses memory that kernels on the current device cannot read.
inline void check_on_device(const void* data, const char* name) {
  cudaPointerAttributes found{};
  int device = 0;
  check_cuda(cudaGetDevice(&device), "cudaGetDevice");
  check_cuda(cudaPointerGetAttributes(&found, data), name);
  if (found.type == cudaMemoryTypeUnregistered) {
    throw DeviceFailure(std::string(name) + ": got host memory, expected memory of cuda:" + std::to_string(device));
  }
  if (found.type == cudaMemoryTypeDevice && found.device != device) {
    throw DeviceFailure(std::string(name) + ": got an array on cuda:" + std::to_string(found.device) +
                        ", expected one on cuda:" + std::to_string(device));
  }
}

#ifdef __CUDACC__  // the bindings need nothing of the following

// A pointer into shared memory; on the emulated grid its loads and stores are watched.
template <class T>
class Shared {
 public:
  __device__ __forceinline__ explicit Shared(T* data) : data_(data) {}
  __device__ __forceinline__ T& operator[](int64_t i) const { return data_[i]; }
  __device__ __forceinline__ Shared operator+(int64_t n) const { return Shared(data_ + n); }
  template <class U>
  __device__ __forceinline__ Shared<U> as() const {
    return Shared<U>(reinterpret_cast<U*>(data_));
  }
  __device__ __forceinline__ T* data() const { return data_; }

 private:
  T* data_;
};

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, Stream stream, A&&... arguments) {
  if (shared_bytes > (48 << 10)) {  // beyond what every kernel may have without asking
    check_cuda(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shared_bytes)),
               "shared memory of a kernel");
  }
  check_interrupt();
  kernel<<<grid, block, shared_bytes, stream.handle>>>(static_cast<P>(arguments)...);
  check_cuda(cudaGetLastError(), "kernel launch");
}

#endif

}  // namespace recsys_fast

#define RF_SHARED(T, name, ...)                         \
  __shared__ __align__(16) T name##_array[__VA_ARGS__]; \
  const ::recsys_fast::Shared<T> name(name##_array)
// One array for all kernels of a file, of bytes, since its type must be the same everywhere.
#define RF_DYNAMIC_SHARED(T, name)                                         \
  extern __shared__ __align__(16) unsigned char rf_dynamic_shared_bytes[]; \
  const ::recsys_fast::Shared<T> name(reinterpret_cast<T*>(rf_dynamic_shared_bytes))
