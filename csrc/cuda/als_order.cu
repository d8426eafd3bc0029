#include "cuda/als_order.h"

#include <algorithm>

namespace recsys_fast {
namespace {

constexpr int kThreads = 256;

// This block's run of rows.
struct Run {
  int64_t first, last;
  __device__ explicit Run(int64_t n) {
    const int64_t size = (n + gridDim.x - 1) / gridDim.x;
    first = min(n, blockIdx.x * size);
    last = min(n, first + size);
  }
};

// own (kAlsSlots) = rows of the block's run per slot.
__device__ void count_run(const Run& run, const int64_t* row_ptr, Shared<int32_t> own) {
  if (threadIdx.x < kAlsSlots) own[threadIdx.x] = 0;
  __syncthreads();
  for (int64_t u = run.first + threadIdx.x; u < run.last; u += blockDim.x) {
    atomicAdd(&own[als_slot(row_ptr[u + 1] - row_ptr[u])], 1);
  }
  __syncthreads();
}

// counts (kAlsSlots) += rows per slot.
__global__ void __launch_bounds__(kThreads) als_count_kernel(int32_t* counts, const int64_t* row_ptr, int64_t n) {
  RF_SHARED(int32_t, own, kAlsSlots);
  count_run(Run(n), row_ptr, own);
  if (threadIdx.x < kAlsSlots && own[threadIdx.x] > 0) atomicAdd(counts + threadIdx.x, own[threadIdx.x]);
}

// rows (n) = row numbers by slot. A block takes its share of every slot with one atomic, so that neither many rows nor
// many blocks meet at one word.
__global__ void __launch_bounds__(kThreads)
    als_place_kernel(AlsOrder order, int32_t* fill, const int64_t* row_ptr, int64_t n) {
  RF_SHARED(int32_t, next, kAlsSlots);
  const Run run(n);
  count_run(run, row_ptr, next);
  if (threadIdx.x < kAlsSlots) {
    const int32_t count = next[threadIdx.x];
    int32_t before = 0;
    for (int s = 0; s < static_cast<int>(threadIdx.x); ++s) before += order.counts[s];
    next[threadIdx.x] = before + (count > 0 ? atomicAdd(fill + threadIdx.x, count) : 0);
  }
  __syncthreads();
  for (int64_t u = run.first + threadIdx.x; u < run.last; u += blockDim.x) {
    order.rows[atomicAdd(&next[als_slot(row_ptr[u + 1] - row_ptr[u])], 1)] = static_cast<int32_t>(u);
  }
}

}  // namespace

void als_sort_rows(const AlsOrder& order, int32_t* fill, Csr matrix, Stream stream) {
  const int64_t n = matrix.n_rows;
  const unsigned blocks = blocks_for(std::min<int64_t>(n, int64_t{1} << 20), 1024);
  launch(als_count_kernel, dim3(blocks), dim3(kThreads), 0, stream, order.counts, matrix.row_ptr, n);
  launch(als_place_kernel, dim3(blocks), dim3(kThreads), 0, stream, order, fill, matrix.row_ptr, n);
}

}  // namespace recsys_fast
