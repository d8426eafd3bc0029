// A block takes a row, a warp 32 of its entries at a time: their rows of y come as whole lines through shared memory,
// 32 columns of each, and a lane adds up the products of one entry in the order of the columns, as topk does.
#include "ops/pair_scores.h"

#include "cuda/reduce.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarpSize;
constexpr int kStride = kWarpSize + 1;  // of an entry's columns, so that the lanes' reads are of different banks

__global__ void __launch_bounds__(kThreads)
    pair_scores_kernel(float* out, Rows<const float> x, Rows<const float> y, Csr pairs) {
  RF_SHARED(float, tiles, kWarps * kWarpSize * kStride);
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize, lane = Warp::lane();
  const Shared<float> tile = tiles + warp * kWarpSize * kStride;
  const int64_t row = blockIdx.x, end = pairs.row_ptr[row + 1], d = x.d;
  const float* own = x.row(row);
  for (int64_t first = pairs.row_ptr[row] + warp * kWarpSize; first < end; first += kThreads) {
    const int n = static_cast<int>(min(end - first, int64_t{kWarpSize}));
    float sum = 0.0f;
    for (int64_t from = 0; from < d; from += kWarpSize) {
      const int width = static_cast<int>(min(d - from, int64_t{kWarpSize}));
      __syncwarp();  // the tile before has been read
#pragma unroll 8
      for (int i = 0; i < n; ++i) {
        const float* other = y.row(pairs.col_idx[first + i]) + from;
        if (lane < width) tile[i * kStride + lane] = other[lane];
      }
      __syncwarp();
      if (lane >= n) continue;
#pragma unroll 8
      for (int k = 0; k < width; ++k) sum += own[from + k] * tile[lane * kStride + k];
    }
    if (lane < n) out[first + lane] = sum;
  }
}

}  // namespace

template <>
void pair_scores<Cuda>(float* out, Rows<const float> x, Rows<const float> y, Csr pairs, int) {
  if (pairs.n_rows == 0) return;
  launch(pair_scores_kernel, dim3(static_cast<unsigned>(pairs.n_rows)), dim3(kThreads), 0, current_stream(), out, x, y,
         pairs);
}

}  // namespace recsys_fast
