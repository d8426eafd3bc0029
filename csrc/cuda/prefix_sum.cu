// Three launches: sums of tiles, running sums of those (by the same way), and every tile again from where it starts.
// The array is read twice and written once; tiles of 2,048 keep the second level small (10 MB of sums are 5 KB of
// tiles).
#include "cuda/prefix_sum.h"

#include "cuda/reduce.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kEach = 8;  // consecutive elements of a thread: one line of 64 bytes
constexpr int64_t kTile = int64_t{kThreads} * kEach;

// sums (n_tiles) = the tiles' sums.
__global__ void __launch_bounds__(kThreads) tile_sums_kernel(int64_t* sums, const int64_t* x, int64_t n) {
  RF_SHARED(int64_t, scratch, kWarps);
  const int64_t begin = blockIdx.x * kTile + threadIdx.x * kEach;
  int64_t sum = 0;
  for (int k = 0; k < kEach; ++k) sum += begin + k < n ? x[begin + k] : 0;
  sum = Block::sum(sum, scratch);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// x (n) = running sums, each tile from starts[tile] on (null: from 0).
__global__ void __launch_bounds__(kThreads) tile_prefix_sum_kernel(int64_t* x, const int64_t* starts, int64_t n) {
  RF_SHARED(int64_t, scratch, kWarps);
  const int64_t begin = blockIdx.x * kTile + threadIdx.x * kEach;
  int64_t each[kEach], sum = 0;
  for (int k = 0; k < kEach; ++k) {
    each[k] = begin + k < n ? x[begin + k] : 0;
    sum += each[k];
  }
  int64_t at = Block::scan(sum, scratch) - sum + (starts != nullptr ? starts[blockIdx.x] : 0);
  for (int k = 0; k < kEach; ++k) {
    if (begin + k < n) x[begin + k] = at;
    at += each[k];
  }
}

}  // namespace

void prefix_sum(int64_t* x, int64_t n, Stream stream) {
  if (n <= 0) return;
  const int64_t n_tiles = (n + kTile - 1) / kTile;
  if (n_tiles == 1) {
    launch(tile_prefix_sum_kernel, dim3(1), dim3(kThreads), 0, stream, x, nullptr, n);
    return;
  }
  const dim3 grid(static_cast<unsigned>(n_tiles));
  DeviceBuffer<int64_t> starts(n_tiles, stream);
  launch(tile_sums_kernel, grid, dim3(kThreads), 0, stream, starts.data(), x, n);
  prefix_sum(starts.data(), n_tiles, stream);
  launch(tile_prefix_sum_kernel, grid, dim3(kThreads), 0, stream, x, starts.data(), n);
}

}  // namespace recsys_fast
