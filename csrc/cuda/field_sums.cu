#include "ops/field_sums.h"

#include "cuda/entry_sums.h"
#include "cuda/field_rows.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 128;

// x, sums (null without linear weights and pairs) and score, overwritten; n_lanes lanes per row.
__global__ void __launch_bounds__(kThreads)
    field_sums_forward_kernel(float* x, float* sums, float* score, Csr rows, Rows<const float> table, FieldSums how,
                              int n_lanes) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % n_lanes;
  const int64_t row = (int64_t{blockIdx.x} * kThreads + thread) / n_lanes;
  const int64_t d = table.d, k = d - (how.linear ? 1 : 0);
  float products = 0.0f, weights = 0.0f;
  if (row < rows.n_rows) {
    for (int64_t c = lane; c < k; c += n_lanes) {
      float* to = x + row * how.n_fields * k + c;
      for (int64_t f = 0; f < how.n_fields; ++f) to[f * k] = 0.0f;
      const RowSum found =
          sum_column(rows, row, table.data + c, d, how.fields, [&](int32_t f, float part) { to[f * k] += part; });
      if (sums != nullptr) sums[row * d + c] = found.sum;
      products += found.sum * found.sum - found.squares;
    }
    if (how.linear) {
      weights = weight_part(rows, row, table, k, lane, n_lanes);
      if (lane == 0) sums[row * d + k] = 1.0f;
    }
  }
  const float total = Warp::reduce((how.pairs ? 0.5f * products : 0.0f) + weights, Sum(), n_lanes);
  if (row < rows.n_rows && lane == 0) score[row] = total;
}

// The features' lists of entries: value dx, and, for the score, slope (sum over the row but for the entry itself).
struct FeatureLists {
  FieldGradients from;
  Rows<const float> table;
  FieldSums how;
  const int32_t *features, *entries;
  int64_t k;

  struct Entry {
    const float *dx, *sums, *own;  // sums: null without pairs
    float value, slope;
    int64_t k;
    __device__ __forceinline__ float operator()(int64_t c) const {
      if (c >= k) return slope;  // of the weight
      const float through = value * dx[c];
      return sums != nullptr ? through + slope * (sums[c] - value * own[c]) : through;
    }
  };
  struct List {
    const FeatureLists& all;
    const float* own;
    int64_t field;
    __device__ __forceinline__ Entry entry(int64_t p) const {
      const int64_t e = all.entries[p], row = all.from.entry_rows[e];
      const float value = all.from.values != nullptr ? all.from.values[e] : 1.0f;
      return {all.from.dx + (row * all.how.n_fields + field) * all.k,
              all.how.pairs ? all.from.sums + row * all.table.d : nullptr,
              own,
              value,
              value * all.from.dscore[row],
              all.k};
    }
  };
  __device__ __forceinline__ List of(int64_t t) const {
    const int32_t feature = features[t];
    return {*this, table.row(feature), how.fields != nullptr ? how.fields[feature] : 0};
  }
};

struct RowsOut {
  Rows<float> rows;
  __device__ __forceinline__ float start(int64_t, int64_t) const { return 0.0f; }
  __device__ __forceinline__ void finish(int64_t t, int64_t c, float sum) const { rows.row(t)[c] = sum; }
};

}  // namespace

template <>
void field_sums_forward<Cuda>(float* x, float* sums, float* score, Csr rows, Rows<const float> table,
                              const FieldSums& how, int) {
  if (rows.n_rows == 0) return;
  const int n_lanes = lanes_for(how.n_factors(table.d));
  launch(field_sums_forward_kernel, dim3(blocks_for(rows.n_rows * n_lanes, kThreads)), dim3(kThreads), 0,
         current_stream(), x, sums, score, rows, table, how, n_lanes);
}

template <>
void field_sums_backward<Cuda>(Rows<float> drows, const int32_t* features, const int64_t* entry_ptr,
                               const int32_t* entries, const FieldGradients& from, Rows<const float> table,
                               const FieldSums& how, int) {
  const FeatureLists lists{from, table, how, features, entries, how.n_factors(table.d)};
  sum_entries(lists, RowsOut{drows}, entry_ptr, drows.n, drows.d, current_stream());
}

}  // namespace recsys_fast
