#include <cmath>
#include <vector>

#include "core/simd.h"
#include "core/thread_pool.h"
#include "ops/als.h"

namespace recsys_fast {
namespace {

constexpr int64_t kRowsPerTask = 64;

double regularizer(const AlsProblem& problem, double n_entries, double n_others, const float* row, int64_t d) {
  const double n = n_entries + double{problem.unobserved_weight} * n_others;
  return double{problem.regularization} * std::pow(n, double{problem.nu}) * double{dot(row, row, d)};
}

}  // namespace

template <>
double als_loss<Cpu>(Rows<const float> x, Rows<const float> y, const float* gram_x, const float* gram_y, Csr matrix,
                     const AlsProblem& problem, const int64_t* col_counts, int n_threads) {
  const int64_t d = y.d;
  std::vector<double> parts((x.n + kRowsPerTask - 1) / kRowsPerTask, 0.0);
  parallel_for(x.n, kRowsPerTask, n_threads, [&](int64_t begin, int64_t end, int) {
    double sum = 0.0;
    for (int64_t u = begin; u < end; ++u) {
      const float* row = x.row(u);
      for (int64_t j = matrix.row_ptr[u]; j < matrix.row_ptr[u + 1]; ++j) {
        const float* other = y.row(matrix.col_idx[j]);
        sum += als_entry_loss(problem, j, dot(row, other, d), row[d - 1], other[d - 1]);
      }
      sum += regularizer(problem, static_cast<double>(matrix.row_size(u)), static_cast<double>(y.n), row, d);
    }
    parts[begin / kRowsPerTask] = sum;
  });
  double total = 0.0;
  for (const double part : parts) total += part;
  for (int64_t i = 0; i < y.n; ++i) {
    total += regularizer(problem, static_cast<double>(col_counts[i]), static_cast<double>(x.n), y.row(i), d);
  }
  for (int64_t k = 0; k < d * d; ++k) total += double{problem.unobserved_weight} * gram_x[k] * gram_y[k];
  return total;
}

}  // namespace recsys_fast
