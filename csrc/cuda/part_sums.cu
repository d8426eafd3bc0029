#include "cuda/part_sums.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    part_sums_kernel(float* out, int64_t stride, const float* parts, int64_t part_stride, int64_t n, int64_t cols,
                     int64_t n_parts) {
  const int64_t e = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (e >= n) return;
  float total = 0.0f;
#pragma unroll 8
  for (int64_t p = 0; p < n_parts; ++p) total += parts[p * part_stride + e];
  out[e / cols * stride + e % cols] = total;
}

}  // namespace

void add_parts(float* out, int64_t stride, const float* parts, int64_t part_stride, int64_t rows, int64_t cols,
               int64_t n_parts, Stream stream) {
  const int64_t n = rows * cols;
  if (n == 0) return;
  launch(part_sums_kernel, dim3(blocks_for(n, kThreads)), dim3(kThreads), 0, stream, out, stride, parts, part_stride, n,
         cols, n_parts);
}

}  // namespace recsys_fast
