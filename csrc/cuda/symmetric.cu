#include "cuda/symmetric.h"

namespace recsys_fast {
namespace {

constexpr int kSide = 32, kThreads = 256, kStride = kSide + 1;

// Tiles of 32 x 32 on and below the diagonal, so that loads and stores are of neighbours. Block (tile of rows, tile of
// columns); those above the diagonal have nothing to do.
__global__ void __launch_bounds__(kThreads) mirror_lower_kernel(float* a, int64_t n, float sign) {
  RF_SHARED(float, tile, kSide* kStride);
  const int64_t row = int64_t{blockIdx.x} * kSide, col = int64_t{blockIdx.y} * kSide;
  if (col > row) return;
  for (int e = static_cast<int>(threadIdx.x); e < kSide * kSide; e += kThreads) {
    const int64_t r = row + e / kSide, c = col + e % kSide;
    if (r >= n || c > r) continue;
    const float value = sign * a[r * n + c];
    tile[e / kSide * kStride + e % kSide] = value;
    a[r * n + c] = value;
  }
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < kSide * kSide; e += kThreads) {
    const int64_t r = row + e % kSide, c = col + e / kSide;
    if (r < n && c < r) a[c * n + r] = tile[e % kSide * kStride + e / kSide];
  }
}

}  // namespace

void mirror_lower(float* a, int64_t n, float sign, Stream stream) {
  if (n == 0) return;
  launch(mirror_lower_kernel, dim3(blocks_for(n, kSide), blocks_for(n, kSide)), dim3(kThreads), 0, stream, a, n, sign);
}

}  // namespace recsys_fast
