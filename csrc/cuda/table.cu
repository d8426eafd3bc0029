// A warp takes a row of the plan and sums its entries in their order, 128 columns at a time in registers and four
// entries on their way at once. Rows with many entries (popular items, one that pads) would keep one warp busy for
// long: those are summed by all warps of the block, every warp a run of the entries, and the runs' sums in order. Which
// way is taken depends on the plan alone.
#include "ops/table.h"

#include "cuda/reduce.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarpSize;
constexpr int kEach = 4, kWidth = kEach * kWarpSize;  // columns of a lane and of a warp at a time
constexpr int64_t kShort = 64;                        // entries of a row that one warp sums

// factor times a row is an entry's gradient, and `bias` its gradient of the bias.
struct Entry {
  const float* row;
  float factor, bias;
};

__device__ __forceinline__ Entry entry_of(const RowGradients& from, int64_t d, int64_t e) {
  if (e < from.dx.n) return {from.dx.data + e * d, 1.0f, 0.0f};
  e -= from.dx.n;
  if (e < from.dcand.n) {
    return {from.dcand.data + e * d, 1.0f, from.dcand_bias != nullptr ? from.dcand_bias[e] : 0.0f};
  }
  e -= from.dcand.n;
  const int64_t row = from.width == 1 ? e : static_cast<uint32_t>(e) / static_cast<uint32_t>(from.width);
  return {from.h + row * d, from.coef[e], from.coef[e]};
}

// sum[k] += column c + 32 k of the entries, c < columns left.
__device__ __forceinline__ void add_entries(float (&sum)[kEach], const RowGradients& from, int64_t d, int64_t first,
                                            const int32_t* entries, int64_t n) {
  const int64_t c = first + Warp::lane();
#pragma unroll 4
  for (int64_t i = 0; i < n; ++i) {
    const Entry entry = entry_of(from, d, entries[i]);
#pragma unroll
    for (int k = 0; k < kEach; ++k) {
      if (c + k * kWarpSize < d) sum[k] += entry.row[c + k * kWarpSize] * entry.factor;
    }
  }
}

// Where the sums of the plan's n rows go: rows of their own, overwritten, or, with ids, added to those rows of a table.
struct Target {
  float *rows, *bias;
  const int32_t* ids;
  int64_t n;
};

// The plan's rows 8 b to 8 b + 7 for block b, a warp each.
__global__ void __launch_bounds__(kThreads)
    table_rows_kernel(Target to, const int64_t* entry_ptr, const int32_t* entries, RowGradients from, int64_t d) {
  RF_SHARED(float, parts, kWarps* kWidth);
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int64_t base = int64_t{blockIdx.x} * kWarps;
  const auto place = [&](int64_t r) { return to.ids != nullptr ? to.ids[r] : r; };
  const int64_t r = base + warp;
  if (r < to.n) {
    const int32_t* own = entries + entry_ptr[r];
    const int64_t n = entry_ptr[r + 1] - entry_ptr[r];
    for (int64_t first = 0; n <= kShort && first < d; first += kWidth) {
      float* out = to.rows + place(r) * d + first + Warp::lane();
      float sum[kEach] = {};
      const int64_t left = d - first - Warp::lane();
      for (int k = 0; to.ids != nullptr && k < kEach; ++k) sum[k] = k * kWarpSize < left ? out[k * kWarpSize] : 0.0f;
      add_entries(sum, from, d, first, own, n);
      for (int k = 0; k < kEach; ++k) {
        if (k * kWarpSize < left) out[k * kWarpSize] = sum[k];
      }
    }
    if (to.bias != nullptr) {
      float sum = 0.0f;
      for (int64_t i = Warp::lane(); i < n; i += kWarpSize) sum += entry_of(from, d, own[i]).bias;
      sum = Warp::sum(sum);
      if (Warp::lane() == 0) to.bias[place(r)] = to.ids != nullptr ? to.bias[place(r)] + sum : sum;
    }
  }
  const int64_t end = min(to.n, base + kWarps);
  for (int64_t long_row = base; long_row < end; ++long_row) {
    const int64_t begin = entry_ptr[long_row], n = entry_ptr[long_row + 1] - begin;
    if (n <= kShort) continue;
    const int64_t run = (n + kWarps - 1) / kWarps, at = min(n, warp * run);
    for (int64_t first = 0; first < d; first += kWidth) {
      float sum[kEach] = {};
      add_entries(sum, from, d, first, entries + begin + at, min(run, n - at));
      for (int k = 0; k < kEach; ++k) parts[warp * kWidth + k * kWarpSize + Warp::lane()] = sum[k];
      __syncthreads();
      const int64_t c = first + threadIdx.x;
      if (threadIdx.x < kWidth && c < d) {
        float* out = to.rows + place(long_row) * d + c;
        float total = to.ids != nullptr ? *out : 0.0f;
        for (int w = 0; w < kWarps; ++w) total += parts[w * kWidth + static_cast<int>(threadIdx.x)];
        *out = total;
      }
      __syncthreads();
    }
  }
}

void sum_rows(const Target& to, const int64_t* entry_ptr, const int32_t* entries, const RowGradients& from, int64_t d,
              Stream stream) {
  if (to.n == 0) return;
  launch(table_rows_kernel, dim3(blocks_for(to.n, kWarps)), dim3(kThreads), 0, stream, to, entry_ptr, entries, from, d);
}

}  // namespace

template <>
void table_gradient<Cuda>(Rows<float> drows, float* dbias, const int64_t* entry_ptr, const int32_t* entries,
                          const RowGradients& from, int) {
  sum_rows({drows.data, dbias, nullptr, drows.n}, entry_ptr, entries, from, drows.d, current_stream());
}

template <>
void table_add<Cuda>(Rows<float> dtable, float* dbias, const int32_t* ids, const RowGradients& from, int n_threads) {
  const Stream stream = current_stream();
  const int64_t n = from.size();
  DeviceBuffer<int32_t> rows(n, stream), entries(n, stream);
  DeviceBuffer<int64_t> entry_ptr(n + 1, stream);
  const int64_t n_rows = id_plan<Cuda>(rows.data(), entry_ptr.data(), entries.data(), ids, n, dtable.n, n_threads);
  sum_rows({dtable.data, dbias, rows.data(), n_rows}, entry_ptr.data(), entries.data(), from, dtable.d, stream);
}

}  // namespace recsys_fast
