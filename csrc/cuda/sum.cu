#include "cuda/sum.h"

#include "cuda/reduce.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kRun = 16 * kThreads;  // numbers per block

// sums[b] = sum of run b of values.
__global__ void __launch_bounds__(kThreads) sum_kernel(double* sums, const double* values, int64_t n) {
  RF_SHARED(double, scratch, 32);
  const int64_t first = blockIdx.x * kRun;
  double total = 0.0;
  for (int64_t i = first + threadIdx.x; i < n && i < first + kRun; i += kThreads) total += values[i];
  total = Block::sum(total, scratch);
  if (threadIdx.x == 0) sums[blockIdx.x] = total;
}

}  // namespace

double device_sum(const double* values, int64_t n, Stream stream) {
  if (n == 0) return 0.0;
  DeviceBuffer<double> kept;
  while (n > 1) {
    const unsigned blocks = blocks_for(n, kRun);
    DeviceBuffer<double> sums(blocks, stream);
    launch(sum_kernel, dim3(blocks), dim3(kThreads), 0, stream, sums.data(), values, n);
    kept = std::move(sums);
    values = kept.data();
    n = blocks;
  }
  return read_element(values, stream);
}

}  // namespace recsys_fast
