// x^T x of a sparse matrix, dense: row i gathers the rows of x that hold i (Gustavson 1978) up to the diagonal, in a
// float64 row that stays in L2; then the lower triangle is mirrored.
#include <algorithm>

#include "core/arena.h"
#include "core/simd.h"
#include "core/thread_pool.h"
#include "ops/linear.h"

namespace recsys_fast {
namespace {

constexpr int64_t kMirror = 64;  // side of the squares that are mirrored at once

}  // namespace

template <>
void csr_gram<Cpu>(float* out, const Csr& t, const Csr& x, float regularization, int n_threads) {
  const int64_t n = t.n_rows;
  parallel_for(n, 4, n_threads, [&](int64_t begin, int64_t end, int) {
    Arena& arena = thread_arena();
    arena.reset(Arena::padded<double>(static_cast<size_t>(n)));
    double* sums = arena.take<double>(static_cast<size_t>(n));
    for (int64_t i = begin; i < end; ++i) {
      std::fill_n(sums, i + 1, 0.0);
      for (int64_t e = t.row_ptr[i]; e < t.row_ptr[i + 1]; ++e) {
        const int64_t u = t.col_idx[e];
        const double value = t.values == nullptr ? 1.0 : static_cast<double>(t.values[e]);
        const int64_t last = x.row_ptr[u + 1];
        for (int64_t k = x.row_ptr[u]; k < last && x.col_idx[k] <= i; ++k) {
          sums[x.col_idx[k]] += x.values == nullptr ? value : value * static_cast<double>(x.values[k]);
        }
      }
      for (int64_t j = 0; j <= i; ++j) out[i * n + j] = static_cast<float>(sums[j]);
      out[i * n + i] += regularization;
    }
  });
  const int64_t n_strips = (n + kMirror - 1) / kMirror;
  parallel_for(n_strips, 1, n_threads, [&](int64_t strip, int64_t, int) {
    const int64_t i = strip * kMirror, rows = std::min(kMirror, n - i);
    for (int64_t j = 0; j <= i; j += kMirror) {
      for (int64_t c = j; c < std::min(j + kMirror, i + rows); ++c) {
        for (int64_t r = std::max(i, c + 1); r < i + rows; ++r) out[c * n + r] = out[r * n + c];
      }
    }
  });
}

}  // namespace recsys_fast
