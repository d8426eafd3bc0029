#include "ops/table.h"

#include "cuda/entry_sums.h"

namespace recsys_fast {
namespace {

// The plan's lists of entries. Entry p is a row of gradients times a factor.
struct RowLists {
  RowGradients from;
  int64_t d;
  const int32_t* entries;

  __device__ __forceinline__ const RowLists& of(int64_t) const { return *this; }
  __device__ __forceinline__ RowGradient entry(int64_t p) const { return row_gradient(from, d, entries[p]); }
};

// Where the sums of the plan's n rows go: rows of their own, overwritten, or, with ids, added to those rows of a table.
struct Target {
  float *rows, *bias;
  const int32_t* ids;
  int64_t n, d;
  __device__ __forceinline__ int64_t place(int64_t r) const { return ids != nullptr ? ids[r] : r; }
  __device__ __forceinline__ float start(int64_t r, int64_t c) const {
    return ids != nullptr ? rows[place(r) * d + c] : 0.0f;
  }
  __device__ __forceinline__ void finish(int64_t r, int64_t c, float sum) const { rows[place(r) * d + c] = sum; }
};

// The entries' gradients of the bias, a warp per row of the plan.
__global__ void __launch_bounds__(kListThreads) table_bias_kernel(Target to, RowLists lists, const int64_t* entry_ptr) {
  const int64_t r = int64_t{blockIdx.x} * kListWarps + threadIdx.x / kWarpSize;
  if (r >= to.n) return;
  const int64_t end = entry_ptr[r + 1];
  float sum = 0.0f;
  for (int64_t p = entry_ptr[r] + Warp::lane(); p < end; p += kWarpSize) sum += lists.entry(p).bias;
  sum = Warp::sum(sum);
  if (Warp::lane() == 0) to.bias[to.place(r)] = to.ids != nullptr ? to.bias[to.place(r)] + sum : sum;
}

void sum_rows(const Target& to, const int64_t* entry_ptr, const int32_t* entries, const RowGradients& from,
              Stream stream) {
  if (to.n == 0) return;
  const RowLists lists{from, to.d, entries};
  sum_entries(lists, to, entry_ptr, to.n, to.d, stream);
  if (to.bias == nullptr) return;
  launch(table_bias_kernel, dim3(blocks_for(to.n, kListWarps)), dim3(kListThreads), 0, stream, to, lists, entry_ptr);
}

}  // namespace

template <>
void table_gradient<Cuda>(Rows<float> drows, float* dbias, const int64_t* entry_ptr, const int32_t* entries,
                          const RowGradients& from, int) {
  sum_rows({drows.data, dbias, nullptr, drows.n, drows.d}, entry_ptr, entries, from, current_stream());
}

template <>
void table_add<Cuda>(Rows<float> dtable, float* dbias, const int32_t* ids, const RowGradients& from, int n_threads) {
  const Stream stream = current_stream();
  const int64_t n = from.size();
  DeviceBuffer<int32_t> rows(n, stream), entries(n, stream);
  DeviceBuffer<int64_t> entry_ptr(n + 1, stream);
  const int64_t n_rows = id_plan<Cuda>(rows.data(), entry_ptr.data(), entries.data(), ids, n, dtable.n, n_threads);
  sum_rows({dtable.data, dbias, rows.data(), n_rows, dtable.d}, entry_ptr.data(), entries.data(), from, stream);
}

}  // namespace recsys_fast
