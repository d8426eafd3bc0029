#include "cuda/slope_rows.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads)
    slope_rows_kernel(float* g, const float* dy, const float* y, const float* pre, int64_t size, int64_t d,
                      Activation activation, Dropout drop) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= size) return;
  g[at] = dy[at] * slope_at(activation, y[at], pre == nullptr ? 0.0f : pre[at], drop, at / d, at % d, d);
}

}  // namespace

void slope_rows(float* g, const float* dy, const float* y, const float* pre, int64_t n, int64_t d,
                Activation activation, const Dropout& drop, Stream stream) {
  const int64_t size = n * d;
  if (size == 0) return;
  launch(slope_rows_kernel, dim3(blocks_for(size, kThreads)), dim3(kThreads), 0, stream, g, dy, y, pre, size, d,
         activation, drop);
}

}  // namespace recsys_fast
