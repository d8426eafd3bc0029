#include "ops/csr_dense.h"

#include "cuda/column_sums.h"
#include "cuda/entry_rows.h"
#include "cuda/entry_sums.h"
#include "cuda/slope_rows.h"
#include "ops/table.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarpSize;

// Rows of x as lists of the table's rows.
struct SparseLists {
  Csr x;
  Rows<const float> table;

  struct Entry {
    const float* row;
    float value;
    // What dropout or a rating of 0 left out is not read.
    __device__ __forceinline__ float operator()(int64_t c) const { return value != 0.0f ? row[c] * value : 0.0f; }
  };

  __device__ __forceinline__ const SparseLists& of(int64_t) const { return *this; }
  __device__ __forceinline__ Entry entry(int64_t p) const {
    return {table.row(x.col_idx[p]), x.values != nullptr ? x.values[p] : 1.0f};
  }
};

// y = activation(b + sum).
struct LayerOut {
  Rows<float> y;
  const float* b;
  Activation activation;
  __device__ __forceinline__ float start(int64_t, int64_t c) const { return b != nullptr ? b[c] : 0.0f; }
  __device__ __forceinline__ void finish(int64_t row, int64_t c, float sum) const {
    y.row(row)[c] = activate(activation, sum);
  }
};

struct OneColumnSum {
  const float* g;
  int64_t d;
  __device__ __forceinline__ float2 operator()(int64_t row, int64_t c) const {
    return make_float2(g[row * d + c], 0.0f);
  }
};

// out[e] = value, over the row's length with `normalize`, times the mask. A warp per row.
__global__ void __launch_bounds__(kThreads) csr_scale_kernel(float* out, Csr x, bool normalize, Dropout drop) {
  const int64_t t = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize;
  if (t >= x.n_rows) return;
  const int64_t first = x.row_ptr[t] + Warp::lane(), last = x.row_ptr[t + 1];
  const auto value_of = [&](int64_t e) { return static_cast<double>(x.values != nullptr ? x.values[e] : 1.0f); };
  double scale = 1.0;
  if (normalize) {
    double square = 0.0;
    for (int64_t e = first; e < last; e += kWarpSize) square += value_of(e) * value_of(e);
    square = Warp::sum(square);
    if (square > 0.0) scale = 1.0 / sqrt(square);
  }
  for (int64_t e = first; e < last; e += kWarpSize) {
    const auto value = static_cast<float>(value_of(e) * scale);
    out[e] = drop.active() ? value * dropout_at(drop, t, x.col_idx[e], dropout_groups(x.n_cols)) : value;
  }
}

}  // namespace

template <>
void csr_dense_forward<Cuda>(Rows<float> y, Csr x, Rows<const float> table, const float* b, Activation activation,
                             int) {
  sum_entries(SparseLists{x, table}, LayerOut{y, b, activation}, x.row_ptr, y.n, y.d, current_stream());
}

template <>
void csr_dense_backward<Cuda>(Rows<float> drows, float* dbias, float* db, float* g, Rows<const float> dy,
                              const float* y, Csr x, int64_t nnz, const int64_t* entry_ptr, const int32_t* entries,
                              Activation activation, int n_threads) {
  const Stream stream = current_stream();
  const int64_t d = dy.d;
  if (activation != Activation::kIdentity) {
    slope_rows(g, dy.data, y, nullptr, dy.n, d, activation, Dropout(), stream);
  } else if (g != nullptr) {
    copy_on_device(g, dy.data, dy.n * d, stream);
  }
  const float* gradient = g != nullptr ? g : dy.data;
  if (db != nullptr) sum_columns(db, nullptr, OneColumnSum{gradient, d}, dy.n, d, stream);
  DeviceBuffer<int32_t> row_of(nnz, stream);
  entry_rows(row_of.data(), x.row_ptr, dy.n, nnz, stream);
  const Rows<const float> none{nullptr, 0, d};
  const RowGradients from{none, none, nullptr, x.values, nnz, gradient, 1, row_of.data()};
  table_gradient<Cuda>(drows, dbias, entry_ptr, entries, from, n_threads);
}

template <>
void csr_scale<Cuda>(float* out, Csr x, bool normalize, const DropoutMask& dropout, int) {
  if (x.n_rows == 0) return;
  launch(csr_scale_kernel, dim3(blocks_for(x.n_rows, kWarps)), dim3(kThreads), 0, current_stream(), out, x, normalize,
         Dropout(dropout));
}

}  // namespace recsys_fast
