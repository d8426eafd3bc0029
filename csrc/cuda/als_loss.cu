#include <algorithm>

#include "core/sorted_ids.h"
#include "cuda/reduce.h"
#include "cuda/sum.h"
#include "ops/als.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int64_t kEntries = 32;  // per warp: enough to pay for finding its row, few enough to spread a heavy row

__device__ float lane_dot(const float* a, const float* b, int64_t d) {
  float sum = 0.0f;
  for (int64_t k = Warp::lane(); k < d; k += 32) sum += a[k] * b[k];
  return Warp::sum(sum);
}

// parts[b] = sum over the block's run of entries of t' - 2 t s + c s^2, s = x_u . y_i. A warp per kEntries entries.
__global__ void __launch_bounds__(kThreads)
    als_entry_loss_kernel(double* parts, Rows<const float> x, Rows<const float> y, Csr matrix, AlsProblem problem,
                          int64_t nnz) {
  RF_SHARED(double, scratch, 32);
  const int64_t first = (int64_t{blockIdx.x} * kWarps + threadIdx.x / 32) * kEntries;
  const int64_t last = min(nnz, first + kEntries), d = y.d;
  int64_t u = first < last ? row_of_entry(matrix.row_ptr, matrix.n_rows, first) : 0;
  double sum = 0.0;
  for (int64_t j = first; j < last; ++j) {
    while (matrix.row_ptr[u + 1] <= j) ++u;
    const float *row = x.row(u), *other = y.row(matrix.col_idx[j]);
    sum += als_entry_loss(problem, j, lane_dot(row, other, d), row[d - 1], other[d - 1]);
  }
  sum = Block::sum(Warp::lane() == 0 ? sum : 0.0, scratch);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// parts[b] = sum over rows b kWarps.. of table (n, d) of regularization (n_r + w0 n_others)^nu |row|^2, with n_r from
// row_ptr or, where that is null, counts.
__global__ void __launch_bounds__(kThreads)
    als_penalty_kernel(double* parts, Rows<const float> table, const int64_t* row_ptr, const int64_t* counts,
                       int64_t n_others, AlsProblem problem) {
  RF_SHARED(double, scratch, 32);
  const int64_t r = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  double value = 0.0;
  if (r < table.n) {
    const double square = lane_dot(table.row(r), table.row(r), table.d);
    if (Warp::lane() == 0) {
      const double n = static_cast<double>(row_ptr != nullptr ? row_ptr[r + 1] - row_ptr[r] : counts[r]);
      const double size = n + double{problem.unobserved_weight} * static_cast<double>(n_others);
      value = double{problem.regularization} * pow(size, double{problem.nu}) * square;
    }
  }
  value = Block::sum(value, scratch);
  if (threadIdx.x == 0) parts[blockIdx.x] = value;
}

// parts[b] = the block's share of w0 <a, b>, a and b (n).
__global__ void __launch_bounds__(kThreads)
    als_pairs_kernel(double* parts, const float* a, const float* b, int64_t n, float w0) {
  RF_SHARED(double, scratch, 32);
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const double sum = Block::sum(i < n ? double{w0} * a[i] * b[i] : 0.0, scratch);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

}  // namespace

template <>
double als_loss<Cuda>(Rows<const float> x, Rows<const float> y, const float* gram_x, const float* gram_y, Csr matrix,
                      const AlsProblem& problem, const int64_t* col_counts, int) {
  const Stream stream = current_stream();
  const int64_t nnz = x.n > 0 ? read_element(matrix.row_ptr + matrix.n_rows, stream) : 0, d = y.d;
  const unsigned entries = blocks_for(nnz, kWarps * kEntries), users = blocks_for(x.n, kWarps),
                 items = blocks_for(y.n, kWarps), pairs = blocks_for(d * d, kThreads);
  DeviceBuffer<double> parts(int64_t{entries} + users + items + pairs, stream);
  double* out = parts.data();
  launch(als_entry_loss_kernel, dim3(entries), dim3(kThreads), 0, stream, out, x, y, matrix, problem, nnz);
  launch(als_penalty_kernel, dim3(users), dim3(kThreads), 0, stream, out + entries, x, matrix.row_ptr, nullptr, y.n,
         problem);
  launch(als_penalty_kernel, dim3(items), dim3(kThreads), 0, stream, out + entries + users, y, nullptr, col_counts, x.n,
         problem);
  launch(als_pairs_kernel, dim3(pairs), dim3(kThreads), 0, stream, out + entries + users + items, gram_x, gram_y, d * d,
         problem.unobserved_weight);
  return device_sum(parts.data(), parts.size(), stream);
}

}  // namespace recsys_fast
