#include "ops/gram.h"

#include <algorithm>

#include "cuda/kernel.h"

namespace recsys_fast {
namespace {

constexpr int kTile = 64;   // rows and columns of the result per block
constexpr int kDepth = 16;  // rows of y (columns of x) that are in shared memory at a time
constexpr int kSide = 16;   // threads along a side of the tile; each owns 4 x 4 results: 16 products per 8 loads

// c (4, 4) of every thread += a^T b for tiles a, b (kDepth, kTile) in shared memory.
__device__ __forceinline__ void add_products(float (&c)[4][4], Shared<float> a, Shared<float> b) {
  for (int k = 0; k < kDepth; ++k) {
    // A warp spans two rows of threads: a is a broadcast of two float4, b 16 neighbours. No bank conflict.
    const float4 left = (a + k * kTile).as<float4>()[threadIdx.y];
    const float4 right = (b + k * kTile).as<float4>()[threadIdx.x];
    const float u[4] = {left.x, left.y, left.z, left.w}, v[4] = {right.x, right.y, right.z, right.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) c[i][j] += u[i] * v[j];
    }
  }
}

// parts (n_parts, d, d): part p = y_p^T y_p over its run of rows, tiles on and above the diagonal only; overwrites.
// Block (tile, part); tiles count the upper triangle row by row.
__global__ void __launch_bounds__(kSide* kSide)
    gram_kernel(float* parts, const float* y, int64_t n, int64_t d, int64_t part_rows) {
  RF_SHARED(float, left, kDepth* kTile);
  RF_SHARED(float, right, kDepth* kTile);
  const int n_tiles = static_cast<int>((d + kTile - 1) / kTile);
  int tile_i = 0, tile_j = static_cast<int>(blockIdx.x);
  for (; tile_j >= n_tiles - tile_i; ++tile_i) tile_j -= n_tiles - tile_i;
  tile_j += tile_i;
  const int64_t first = blockIdx.y * part_rows;
  const int64_t last = min(n, first + part_rows);
  const int thread = static_cast<int>(threadIdx.y * kSide + threadIdx.x);
  float c[4][4] = {};
  for (int64_t row = first; row < last; row += kDepth) {
    __syncthreads();
    for (int e = thread; e < kDepth * kTile; e += kSide * kSide) {  // neighbours read neighbours of a row
      const int64_t r = row + e / kTile, i = tile_i * kTile + e % kTile, j = tile_j * kTile + e % kTile;
      left[e] = r < last && i < d ? y[r * d + i] : 0.0f;
      right[e] = r < last && j < d ? y[r * d + j] : 0.0f;
    }
    __syncthreads();
    add_products(c, left, right);
  }
  float* out = parts + blockIdx.y * d * d;
  for (int i = 0; i < 4; ++i) {
    const int64_t r = tile_i * kTile + threadIdx.y * 4 + i;
    for (int j = 0; j < 4; ++j) {
      const int64_t s = tile_j * kTile + threadIdx.x * 4 + j;
      if (r < d && s < d) out[r * d + s] = c[i][j];
    }
  }
}

// out (d, d) = sum of parts in order, mirrored from above the diagonal; overwrites.
__global__ void gram_sum_kernel(float* out, const float* parts, int64_t d, int n_parts) {
  const int64_t e = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (e >= d * d) return;
  const int64_t i = e / d, j = e % d;
  if (j < i) return;
  float total = 0.0f;
  for (int p = 0; p < n_parts; ++p) total += parts[p * d * d + e];
  out[e] = total;
  out[j * d + i] = total;
}

// out (n, d) = x q; overwrites. Block (tile of rows, tile of columns).
__global__ void __launch_bounds__(kSide* kSide)
    rows_rotate_kernel(float* out, const float* x, const float* q, int64_t n, int64_t d) {
  RF_SHARED(float, left, kDepth* kTile);
  RF_SHARED(float, right, kDepth* kTile);
  const int64_t row = int64_t{blockIdx.x} * kTile, col = int64_t{blockIdx.y} * kTile;
  const int thread = static_cast<int>(threadIdx.y * kSide + threadIdx.x);
  float c[4][4] = {};
  for (int64_t k = 0; k < d; k += kDepth) {
    __syncthreads();
    for (int e = thread; e < kDepth * kTile; e += kSide * kSide) {
      const int64_t r = row + e / kDepth, s = k + e % kDepth;  // of x, stored transposed
      left[e % kDepth * kTile + e / kDepth] = r < n && s < d ? x[r * d + s] : 0.0f;
      const int64_t t = k + e / kTile, j = col + e % kTile;
      right[e] = t < d && j < d ? q[t * d + j] : 0.0f;
    }
    __syncthreads();
    add_products(c, left, right);
  }
  for (int i = 0; i < 4; ++i) {
    const int64_t r = row + threadIdx.y * 4 + i;
    for (int j = 0; j < 4; ++j) {
      const int64_t s = col + threadIdx.x * 4 + j;
      if (r < n && s < d) out[r * d + s] = c[i][j];
    }
  }
}

}  // namespace

template <>
void gram<Cuda>(float* out, Rows<const float> y, int) {
  const int64_t d = y.d, n_tiles = (d + kTile - 1) / kTile, pairs = n_tiles * (n_tiles + 1) / 2;
  // Enough blocks to fill a device even when the result is one tile; at least 256 rows each, and 64 MB of parts at
  // most.
  const int64_t n_parts =
      std::max<int64_t>(1, std::min({y.n / 256, 1024 / pairs, (int64_t{1} << 24) / (d * d), int64_t{512}}));
  const int64_t part_rows = (y.n + n_parts - 1) / n_parts;
  DeviceBuffer<float> parts(n_parts * d * d);
  const Stream stream = current_stream();
  launch(gram_kernel, dim3(static_cast<unsigned>(pairs), static_cast<unsigned>(n_parts)), dim3(kSide, kSide), 0, stream,
         parts.data(), y.data, y.n, d, part_rows);
  launch(gram_sum_kernel, dim3(blocks_for(d * d, 256)), dim3(256), 0, stream, out, parts.data(), d,
         static_cast<int>(n_parts));
}

template <>
void rows_rotate<Cuda>(Rows<float> x, const float* q, int) {
  if (x.n == 0) return;
  const int64_t step = std::max<int64_t>(kTile, (int64_t{1} << 24) / x.d / kTile * kTile);  // 64 MB of rows at a time
  DeviceBuffer<float> before(std::min(step, x.n) * x.d);
  const Stream stream = current_stream();
  for (int64_t row = 0; row < x.n; row += step) {
    const int64_t rows = std::min(step, x.n - row);
    copy_on_device(before.data(), static_cast<const float*>(x.row(row)), rows * x.d, stream);
    launch(rows_rotate_kernel, dim3(blocks_for(rows, kTile), blocks_for(x.d, kTile)), dim3(kSide, kSide), 0, stream,
           x.row(row), before.data(), q, rows, x.d);
  }
}

}  // namespace recsys_fast
