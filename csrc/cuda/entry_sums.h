// Sums of rows that lists of entries name, in the order of the entries: gradients of a table's rows, layers over sparse
// rows. A warp takes a list and 128 columns, which it holds in registers, with four entries on their way at once. Lists
// of many entries (popular items, one that pads) would keep one warp busy for long: those are summed by all warps of
// the block, every warp a run of the entries, and the runs' sums in order. Which way is taken depends on the lists
// alone.
//
// Lists: of(list) gives an object whose entry(p), p from entry_ptr[list] on, is a function of the column.
// Out: start(list, column) is what a sum begins with, finish(list, column, sum) takes the result.
#pragma once

#include "cuda/reduce.h"

namespace recsys_fast {

constexpr int kListThreads = 256, kListWarps = kListThreads / kWarpSize;
constexpr int kListEach = 4, kListWidth = kListEach * kWarpSize;  // columns of a lane and of a warp
constexpr int64_t kShortList = 64;                                // entries that one warp sums

// sum[k] += the entries [begin, begin + n) at column `first` + lane + 32 k, below d.
template <class List>
__device__ __forceinline__ void add_entries(float (&sum)[kListEach], const List& list, int64_t d, int64_t first,
                                            int64_t begin, int64_t n) {
  const int64_t c = first + Warp::lane();
#pragma unroll 4
  for (int64_t i = 0; i < n; ++i) {
    const auto entry = list.entry(begin + i);
#pragma unroll
    for (int k = 0; k < kListEach; ++k) {
      if (c + k * kWarpSize < d) sum[k] += entry(c + k * kWarpSize);
    }
  }
}

// The lists 8 b to 8 b + 7 of n for block (b, run of 128 columns of d), a warp each. Two blocks on a multiprocessor at
// least: with fewer registers, what takes a step in `finish` spills.
template <class Lists, class Out>
__global__ void __launch_bounds__(kListThreads, 2)
    entry_sums_kernel(Lists lists, Out out, const int64_t* entry_ptr, int64_t n, int64_t d) {
  RF_SHARED(float, parts, kListWarps* kListWidth);
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarpSize;
  const int64_t base = int64_t{blockIdx.x} * kListWarps, first = int64_t{blockIdx.y} * kListWidth;
  const int64_t own = base + warp, c = first + Warp::lane();
  if (own < n) {
    const int64_t begin = entry_ptr[own], size = entry_ptr[own + 1] - begin;
    if (size <= kShortList) {
      float sum[kListEach];
#pragma unroll
      for (int k = 0; k < kListEach; ++k) {
        sum[k] = c + k * kWarpSize < d ? out.start(own, c + k * kWarpSize) : 0.0f;
      }
      add_entries(sum, lists.of(own), d, first, begin, size);
#pragma unroll
      for (int k = 0; k < kListEach; ++k) {
        if (c + k * kWarpSize < d) out.finish(own, c + k * kWarpSize, sum[k]);
      }
    }
  }
  const int64_t end = min(n, base + kListWarps);
  for (int64_t list = base; list < end; ++list) {
    const int64_t begin = entry_ptr[list], size = entry_ptr[list + 1] - begin;
    if (size <= kShortList) continue;
    const int64_t run = (size + kListWarps - 1) / kListWarps, at = min(size, warp * run);
    float sum[kListEach] = {};
    add_entries(sum, lists.of(list), d, first, begin + at, min(run, size - at));
#pragma unroll
    for (int k = 0; k < kListEach; ++k) parts[warp * kListWidth + k * kWarpSize + Warp::lane()] = sum[k];
    __syncthreads();
    if (thread < kListWidth && first + thread < d) {
      float total = out.start(list, first + thread);
      for (int w = 0; w < kListWarps; ++w) total += static_cast<float>(parts[w * kListWidth + thread]);
      out.finish(list, first + thread, total);
    }
    __syncthreads();
  }
}

template <class Lists, class Out>
void sum_entries(const Lists& lists, const Out& out, const int64_t* entry_ptr, int64_t n, int64_t d, Stream stream) {
  if (n == 0 || d == 0) return;
  launch(entry_sums_kernel<Lists, Out>, dim3(blocks_for(n, kListWarps), blocks_for(d, kListWidth)), dim3(kListThreads),
         0, stream, lists, out, entry_ptr, n, d);
}

}  // namespace recsys_fast
