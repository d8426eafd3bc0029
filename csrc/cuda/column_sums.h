// Sums over rows of two numbers for every column: what the gradients of a layer norm's parameters need.
#pragma once

#include <algorithm>

#include "cuda/part_sums.h"
#include "cuda/reduce.h"

namespace recsys_fast {

constexpr int kColumnThreads = 256, kColumnWarps = kColumnThreads / kWarpSize;

// parts (n_parts, 2, d): the sums of terms(row, column) over a run of rows. Block (32 columns, part); a warp takes
// every 8th row, and the warps' sums are added in order.
template <class Terms>
__global__ void __launch_bounds__(kColumnThreads)
    column_sums_kernel(float* parts, Terms terms, int64_t n, int64_t d, int64_t part_rows) {
  RF_SHARED(float, sums, 2 * kColumnThreads);
  const int64_t col = int64_t{blockIdx.x} * kWarpSize + Warp::lane(), first = blockIdx.y * part_rows;
  const int64_t last = min(n, first + part_rows);
  const int thread = static_cast<int>(threadIdx.x);
  float total_x = 0.0f, total_y = 0.0f;
  if (col < d) {
    for (int64_t row = first + thread / kWarpSize; row < last; row += kColumnWarps) {
      const float2 term = terms(row, col);
      total_x += term.x;
      total_y += term.y;
    }
  }
  sums[thread] = total_x;
  sums[kColumnThreads + thread] = total_y;
  __syncthreads();
  const int which = thread / kWarpSize;
  if (which >= 2 || col >= d) return;
  float total = 0.0f;
  for (int w = 0; w < kColumnWarps; ++w) {
    total += static_cast<float>(sums[which * kColumnThreads + w * kWarpSize + Warp::lane()]);
  }
  parts[(2 * blockIdx.y + which) * d + col] = total;
}

// first (d), second (d) or null = the sums of both; their tree depends on n only.
template <class Terms>
void sum_columns(float* first, float* second, const Terms& terms, int64_t n, int64_t d, Stream stream) {
  const int64_t n_parts = std::clamp<int64_t>(n / 64, 1, 128), part_rows = (n + n_parts - 1) / n_parts;
  DeviceBuffer<float> parts(n_parts * 2 * d, stream);
  launch(column_sums_kernel<Terms>, dim3(blocks_for(d, kWarpSize), static_cast<unsigned>(n_parts)),
         dim3(kColumnThreads), 0, stream, parts.data(), terms, n, d, part_rows);
  add_parts(first, d, parts.data(), 2 * d, 1, d, n_parts, stream);
  if (second != nullptr) add_parts(second, d, parts.data() + d, 2 * d, 1, d, n_parts, stream);
}

}  // namespace recsys_fast
