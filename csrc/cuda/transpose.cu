#include "cuda/transpose.h"

namespace recsys_fast {
namespace {

constexpr int kSide = 32, kThreads = 256;

// Tiles of 32 x 32, so that loads and stores are of neighbours. Block (tile of rows, tile of columns).
__global__ void __launch_bounds__(kThreads) transpose_kernel(float* out, const float* in, int64_t n, int64_t m) {
  RF_SHARED(float, tile, kSide*(kSide + 1));
  const int64_t row = int64_t{blockIdx.x} * kSide, col = int64_t{blockIdx.y} * kSide;
  for (int e = static_cast<int>(threadIdx.x); e < kSide * kSide; e += kThreads) {
    const int r = e / kSide, c = e % kSide;
    tile[r * (kSide + 1) + c] = row + r < n && col + c < m ? in[(row + r) * m + col + c] : 0.0f;
  }
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < kSide * kSide; e += kThreads) {
    const int c = e / kSide, r = e % kSide;
    if (row + r < n && col + c < m) out[(col + c) * n + row + r] = tile[r * (kSide + 1) + c];
  }
}

}  // namespace

void transpose(float* out, const float* in, int64_t n, int64_t m, Stream stream) {
  launch(transpose_kernel, dim3(blocks_for(n, kSide), blocks_for(m, kSide)), dim3(kThreads), 0, stream, out, in, n, m);
}

}  // namespace recsys_fast
