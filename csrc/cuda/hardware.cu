// Questions to the CUDA runtime; the emulated grid answers them in testing/memory.cc.
#include "ops/device.h"
#ifndef RECSYS_FAST_EMULATED_GRID
#include "cuda/hardware.h"

namespace recsys_fast {

DeviceProbe probe_devices() {
  DeviceProbe found;
  found.runtime = CUDART_VERSION;
  if (cudaDriverGetVersion(&found.driver) != cudaSuccess) found.driver = 0;
  const cudaError_t status = cudaGetDeviceCount(&found.n_devices);
  if (status != cudaSuccess) {
    cudaGetLastError();
    found.n_devices = 0;
    found.error = std::string(cudaGetErrorName(status)) + " (" + cudaGetErrorString(status) + ")";
  }
  return found;
}

std::string device_name(int index) {
  cudaDeviceProp properties;
  check_cuda(cudaGetDeviceProperties(&properties, index), "device properties");
  return std::string(properties.name) + " (sm_" + std::to_string(properties.major) + std::to_string(properties.minor) +
         ")";
}

void set_device(int index) { check_cuda(cudaSetDevice(index), "cudaSetDevice"); }

DeviceMemory device_memory() {
  size_t free = 0, total = 0;
  check_cuda(cudaMemGetInfo(&free, &total), "cudaMemGetInfo");
  return {free, total};
}

}  // namespace recsys_fast
#endif
