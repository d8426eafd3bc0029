// A sweep of alternating least squares for a factorization machine. The score is linear in a feature's weight and
// vector together: its change moves row r's score by z_r . delta with z_r = x (s_r - x v, 1), s_r the row's sums. So
// every column is a ridge regression of the residual on z, which a block solves as a row of ALS (als_system.h):
//   (I + W W^T) u = W C^1/2 residual - S P v,   W = S z C^1/2,   delta = S u,   S = P^-1/2, P the penalties
// Neighbouring columns that share no row, such as the one-hot columns of a category, are solved at the same time; what
// a column shares with earlier ones, the device finds out, and the host cuts the runs. Deterministic.
#include <algorithm>
#include <vector>

#include "cuda/als_system.h"
#include "cuda/sum.h"
#include "ops/field_sums.h"
#include "ops/fm.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarpSize;
constexpr int kSmallTile = 32, kTile = 64;
constexpr int64_t kFactorBytes = int64_t{1} << 30;  // of scratch for factors, all blocks together

// What a sweep is about. Device pointers; columns is the transpose.
struct FmSweep {
  Rows<float> table;
  float* residual;
  Rows<float> sums;
  Csr columns;
  const float* weights;
  float weight_penalty, factor_penalty;

  __device__ __forceinline__ float weight(int64_t row) const { return weights != nullptr ? weights[row] : 1.0f; }
  __device__ __forceinline__ float penalty(int64_t i, int64_t count) const {
    return static_cast<float>(count) * (i < sums.d ? factor_penalty : weight_penalty);
  }
};

// An entry of a column, which lies in row `row` of the matrix.
struct FmEntry {
  int64_t row;
  float x, root;
  __device__ FmEntry(const FmSweep& sweep, int64_t e)
      : row(sweep.columns.col_idx[e]),
        x(sweep.columns.values != nullptr ? sweep.columns.values[e] : 1.0f),
        root(sweep.weights != nullptr ? sqrtf(sweep.weights[row]) : 1.0f) {}
  // Element i of z, times the root of the row's weight; v is the column's row of the table.
  __device__ __forceinline__ float element(const FmSweep& sweep, const float* v, int64_t i) const {
    return root * x * (i < sweep.sums.d ? sweep.sums.row(row)[i] - x * v[i] : 1.0f);
  }
};

// before[j] = 1 + the largest column before j that some row has together with j; 0 where there is none.
__global__ void __launch_bounds__(kThreads) fm_before_kernel(int32_t* before, Csr rows) {
  const int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize;
  if (row >= rows.n_rows) return;
  const int64_t end = rows.row_ptr[row + 1];
  for (int64_t e = rows.row_ptr[row] + 1 + Warp::lane(); e < end; e += kWarpSize) {
    atomicMax(before + rows.col_idx[e], rows.col_idx[e - 1] + 1);
  }
}

// residual in: scores without the bias; out: what is missing. moved, total (n): its weighted value, and the weight.
__global__ void __launch_bounds__(kThreads) fm_residual_kernel(FmSweep sweep, double* moved, double* total,
                                                               const float* targets, const double* bias, int64_t n) {
  const int64_t r = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (r >= n) return;
  const float missing = targets[r] - static_cast<float>(*bias) - sweep.residual[r], weight = sweep.weight(r);
  sweep.residual[r] = missing;
  moved[r] = static_cast<double>(weight) * static_cast<double>(missing);
  total[r] = static_cast<double>(weight);
}

__global__ void __launch_bounds__(kThreads) fm_shift_kernel(float* residual, double* bias, double change, int64_t n) {
  const int64_t r = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (r < n) residual[r] -= static_cast<float>(change);
  if (r == 0) *bias += change;
}

// Columns [first, last), a block each at a time.
template <int kSide>
__global__ void __launch_bounds__(kTileThreads<kSide>, kSide == 64 ? 2 : 8)
    fm_als_kernel(FmSweep sweep, float* factors, int64_t first, int64_t last) {
  RF_SHARED(float, panels, kTilePanels<kSide>);
  RF_SHARED(float, diagonal, kSide* kTileStride<kSide>);
  RF_SHARED(float, inverse, kSide);
  RF_SHARED(int, broken, 1);
  RF_SHARED(double, parts, 32);
  RF_DYNAMIC_SHARED(float, z);
  const int64_t d = sweep.sums.d, n = d + 1, padded = (n + kSide - 1) / kSide * kSide;
  const Shared<float> scale = z + padded;
  const AlsSystemMemory memory{panels, diagonal, inverse, z, broken, parts};
  const int thread = static_cast<int>(threadIdx.x), lane = Warp::lane(), warp = thread / kWarpSize;
  constexpr int kSideThreads = kTileThreads<kSide>, kSideWarps = kSideThreads / kWarpSize;
#pragma unroll 1
  for (int64_t j = first + blockIdx.x; j < last; j += gridDim.x) {
    const int64_t begin = sweep.columns.row_ptr[j], count = sweep.columns.row_ptr[j + 1] - begin;
    if (count == 0) continue;
    float* v = sweep.table.row(j);
    double trace = 0.0;
#pragma unroll 1
    for (int64_t e = warp; e < count; e += kSideWarps) {
      const FmEntry entry(sweep, begin + e);
#pragma unroll 1
      for (int64_t i = lane; i < n; i += kWarpSize) {
        const float one = entry.element(sweep, v, i);
        trace += static_cast<double>(one * one);
      }
    }
    trace = Block::sum(trace, parts);
    const float least = 1e-6f * static_cast<float>(trace) / static_cast<float>(n) + 1e-12f;
#pragma unroll 1
    for (int64_t i = thread; i < padded; i += kSideThreads) {
      const float penalty = sweep.penalty(i, count), s = 1.0f / sqrtf(fmaxf(penalty, least));
      scale[i] = s;
      z[i] = i < n ? -s * penalty * v[i] : 0.0f;
    }
    __syncthreads();
    AlsSystem<kSide> system(memory, factors + blockIdx.x * als_factor_floats<kSide>(n), n);
    const double solved = system.template solve<false>(
        count, [&](int64_t i, int64_t k) { return scale[i] * FmEntry(sweep, begin + k).element(sweep, v, i); },
        [&](int64_t k) {
          const FmEntry entry(sweep, begin + k);
          return entry.root * sweep.residual[entry.row];
        });
    double square = 0.0;
#pragma unroll 1
    for (int64_t i = thread; i < n; i += kSideThreads) {
      const float change = z[i] * scale[i];
      z[i] = change;
      square += static_cast<double>(change) * static_cast<double>(change);
    }
    square = Block::sum(square, parts);
    if (!is_finite(solved) || !is_finite(square)) continue;
#pragma unroll 1
    for (int64_t e = warp; e < count; e += kSideWarps) {
      const FmEntry entry(sweep, begin + e);
      float *s = sweep.sums.row(entry.row), moved = 0.0f;
#pragma unroll 1
      for (int64_t i = lane; i < d; i += kWarpSize) {
        const float change = z[i];
        moved += (s[i] - entry.x * v[i]) * change;
        s[i] += entry.x * change;
      }
      moved = Warp::sum(moved) + static_cast<float>(z[d]);
      if (lane == 0) sweep.residual[entry.row] -= entry.x * moved;
    }
    __syncthreads();  // nobody needs v as it was any more
#pragma unroll 1
    for (int64_t i = thread; i < n; i += kSideThreads) v[i] += z[i];
  }
}

// out (n_rows): the rows' shares of the objective, then (n_features) those of the features' penalties.
__global__ void __launch_bounds__(kThreads) fm_objective_kernel(double* out, FmSweep sweep, int64_t n_rows) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x, j = at - n_rows, d = sweep.sums.d;
  if (j >= sweep.table.n) return;
  if (j < 0) {
    const double missing = sweep.residual[at];
    out[at] = 0.5 * static_cast<double>(sweep.weight(at)) * missing * missing;
    return;
  }
  double squares = 0.0;
  const float* row = sweep.table.row(j);
  for (int64_t i = 0; i <= d; ++i) {
    const double value = row[i], penalty = i < d ? sweep.factor_penalty : sweep.weight_penalty;
    squares += penalty * value * value;
  }
  out[at] = 0.5 * static_cast<double>(sweep.columns.row_size(j)) * squares;
}

template <int kSide>
void solve_run(const FmSweep& sweep, int64_t first, int64_t last, float* factors, int64_t most_blocks, Stream stream) {
  const int64_t n = sweep.sums.d + 1, padded = (n + kSide - 1) / kSide * kSide;
  const auto blocks = static_cast<unsigned>(std::min(last - first, most_blocks));
  launch(fm_als_kernel<kSide>, dim3(blocks), dim3(kTileThreads<kSide>), static_cast<size_t>(2 * padded) * sizeof(float),
         stream, sweep, factors, first, last);
}

// Solves all columns, in runs that share no row.
template <int kSide>
void solve_columns(const FmSweep& sweep, const Csr& rows, Stream stream) {
  const int64_t n_features = sweep.table.n, floats = als_factor_floats<kSide>(sweep.table.d);
  DeviceBuffer<int32_t> before(n_features, stream);
  fill_zero(before.data(), n_features, stream);
  launch(fm_before_kernel, dim3(blocks_for(rows.n_rows, kWarps)), dim3(kThreads), 0, stream, before.data(), rows);
  std::vector<int32_t> shared(static_cast<size_t>(n_features));
  copy_to_host(shared.data(), before.data(), n_features, stream);
  int64_t blocks = n_multiprocessors() * int64_t{kSide == 64 ? 2 : 8};
  if (floats > 0) blocks = std::max<int64_t>(1, std::min(blocks, kFactorBytes / (4 * floats)));
  DeviceBuffer<float> factors(blocks * floats, stream);
  for (int64_t first = 0, last = 0; first < n_features; first = last) {
    for (last = first + 1; last < n_features && shared[static_cast<size_t>(last)] <= first;) ++last;
    solve_run<kSide>(sweep, first, last, factors.data(), blocks, stream);
  }
}

}  // namespace

template <>
double fm_als_sweep<Cuda>(Rows<float> table, double* bias, float* residual, Rows<float> sums, Csr rows, Csr columns,
                          const float* targets, const float* weights, float weight_regularization,
                          float factor_regularization, int n_threads) {
  const Stream stream = current_stream();
  const int64_t n = rows.n_rows;
  if (table.n == 0 && n == 0) return 0.0;
  const FmSweep sweep{table, residual, sums, columns, weights, weight_regularization, factor_regularization};
  const Rows<const float> values{table.data, table.n, table.d};
  DeviceBuffer<double> shares(std::max(2 * n, n + table.n), stream);
  if (n > 0) {
    DeviceBuffer<float> with_ones(n * table.d, stream);
    field_sums_forward<Cuda>(sums.data, with_ones.data(), residual, rows, values, {nullptr, 1, true, true}, n_threads);
    const dim3 grid(blocks_for(n, kThreads)), block(kThreads);
    double* total = shares.data() + n;
    launch(fm_residual_kernel, grid, block, 0, stream, sweep, shares.data(), total, targets, bias, n);
    const double weight = device_sum(total, n, stream);
    if (weight > 0.0) {
      const double change = device_sum(shares.data(), n, stream) / weight;
      launch(fm_shift_kernel, grid, block, 0, stream, residual, bias, change, n);
    }
    if (table.d <= kSmallTile) {
      solve_columns<kSmallTile>(sweep, rows, stream);
    } else {
      solve_columns<kTile>(sweep, rows, stream);
    }
  }
  launch(fm_objective_kernel, dim3(blocks_for(n + table.n, kThreads)), dim3(kThreads), 0, stream, shares.data(), sweep,
         n);
  return device_sum(shares.data(), n + table.n, stream);
}

}  // namespace recsys_fast
