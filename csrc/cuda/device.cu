#include "ops/device.h"

#include <climits>

#include "cuda/kernel.h"

namespace recsys_fast {
namespace {

// first = smallest position of a number that is not finite; starts at LLONG_MAX. A stride of whole grids: neighbours
// read neighbours.
__global__ void find_not_finite_kernel(unsigned long long* first, const float* x, int64_t n) {
  unsigned long long mine = ULLONG_MAX;
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) {
    if (!(fabsf(x[i]) <= 3.402823466e+38f)) {
      mine = static_cast<unsigned long long>(i);
      break;
    }
  }
  if (mine != ULLONG_MAX) atomicMin(first, mine);
}

}  // namespace

int64_t find_not_finite(const float* x, int64_t n) {
  if (n == 0) return -1;
  const Stream stream = current_stream();
  DeviceBuffer<unsigned long long> first(1);
  const unsigned long long none = ULLONG_MAX;
  copy_to_device(first.data(), &none, 1, stream);
  const unsigned blocks = min(blocks_for(n, 1024), 8u * static_cast<unsigned>(n_multiprocessors()));
  launch(find_not_finite_kernel, dim3(blocks), dim3(256), 0, stream, first.data(), x, n);
  const unsigned long long found = read_element(first.data(), stream);
  return found == none ? -1 : static_cast<int64_t>(found);
}

}  // namespace recsys_fast
