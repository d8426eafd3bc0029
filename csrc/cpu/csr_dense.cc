// A fully connected layer over sparse rows. Forward, every row adds up the table's rows that it names; backward, every
// row of the table that is named adds up gradients of the rows that name it.
#include "ops/csr_dense.h"

#include <algorithm>
#include <cmath>

#include "core/dropout.h"
#include "core/thread_pool.h"
#include "cpu/activations.h"
#include "cpu/block_tiles.h"
#include "cpu/row_vectors.h"
#include "ops/table.h"

namespace recsys_fast {
namespace {

constexpr int64_t kGrain = 8;       // rows of a chunk: their lengths differ much
constexpr int64_t kAhead = 4;       // entries whose rows of the table are asked for before they are needed
constexpr int64_t kColumns = 64;    // of g, which one worker sums over all rows
constexpr int64_t kEntries = 8192;  // of a chunk of work that looks at single entries

template <Activation A>
void activate_row(float* y, int64_t d) {
  for_vectors(d, [&](int64_t c, int64_t n) { store_up_to(y + c, activate<A>(load_up_to(y + c, n)), n); });
}

void forward_row(float* y, const Csr& x, int64_t row, Rows<const float> table, const float* b) {
  const int64_t d = table.d, end = x.row_ptr[row + 1];
  if (b != nullptr) {
    std::copy_n(b, d, y);
  } else {
    std::fill_n(y, d, 0.0f);
  }
  for (int64_t e = x.row_ptr[row]; e < end; ++e) {
    if (e + kAhead < end) prefetch(table.row(x.col_idx[e + kAhead]), 4 * d);
    const float value = x.values != nullptr ? x.values[e] : 1.0f;
    if (value != 0.0f) axpy(y, value, table.row(x.col_idx[e]), d);
  }
}

// g = dy times the slope.
template <Activation A>
void slope_row(float* g, const float* dy, const float* y, int64_t d) {
  for_vectors(d, [&](int64_t c, int64_t n) {
    store_up_to(g + c, load_up_to(dy + c, n) * activation_slope<A>(load_up_to(y + c, n), Vec{}), n);
  });
}

void sum_rows(float* sum, Rows<const float> g, int n_threads) {
  parallel_for(g.d, kColumns, threads_for(g.n * g.d, n_threads), [&](int64_t begin, int64_t end, int) {
    std::fill(sum + begin, sum + end, 0.0f);
    for (int64_t t = 0; t < g.n; ++t) axpy(sum + begin, 1.0f, g.row(t) + begin, end - begin);
  });
}

}  // namespace

template <>
void csr_dense_forward<Cpu>(Rows<float> y, Csr x, Rows<const float> table, const float* b, Activation activation,
                            int n_threads) {
  parallel_for(y.n, kGrain, threads_for((y.n + x.nnz()) * y.d, n_threads), [&](int64_t begin, int64_t end, int) {
    with_activation(activation, [&]<Activation A>() {
      for (int64_t t = begin; t < end; ++t) {
        forward_row(y.row(t), x, t, table, b);
        activate_row<A>(y.row(t), y.d);
      }
    });
  });
}

template <>
void csr_dense_backward<Cpu>(Rows<float> drows, float* dbias, float* db, float* g, Rows<const float> dy, const float* y,
                             Csr x, int64_t nnz, const int64_t* entry_ptr, const int32_t* entries,
                             Activation activation, int n_threads) {
  const int64_t d = dy.d;
  if (activation != Activation::kIdentity) {
    parallel_for(dy.n, grain_rows(d), threads_for(dy.n * d, n_threads), [&](int64_t begin, int64_t end, int) {
      with_activation(activation, [&]<Activation A>() {
        for (int64_t t = begin; t < end; ++t) slope_row<A>(g + t * d, dy.row(t), y + t * d, d);
      });
    });
  } else if (g != nullptr) {
    std::copy_n(dy.data, dy.n * d, g);
  }
  const Rows<const float> gradient{g != nullptr ? g : dy.data, dy.n, d};
  if (db != nullptr) sum_rows(db, gradient, n_threads);
  Arena& memory = call_arena();
  memory.reset(Arena::padded<int32_t>(nnz));
  int32_t* row_of = memory.take<int32_t>(nnz);
  parallel_for(dy.n, kEntries / 8, threads_for(nnz, n_threads), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      std::fill(row_of + x.row_ptr[t], row_of + x.row_ptr[t + 1], static_cast<int32_t>(t));
    }
  });
  const Rows<const float> none{nullptr, 0, d};
  const RowGradients from{none, none, nullptr, x.values, nnz, gradient.data, 1, row_of};
  table_gradient<Cpu>(drows, dbias, entry_ptr, entries, from, n_threads);
}

template <>
void csr_scale<Cpu>(float* out, Csr x, bool normalize, const DropoutMask& dropout, int n_threads) {
  const Dropout drop(dropout);
  const int64_t n_groups = dropout_groups(x.n_cols);
  parallel_for(x.n_rows, kGrain, threads_for(8 * x.nnz(), n_threads), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t first = x.row_ptr[t], last = x.row_ptr[t + 1];
      double square = 0.0;
      for (int64_t e = first; e < last; ++e) {
        const double value = x.values != nullptr ? x.values[e] : 1.0;
        square += value * value;
      }
      const double scale = normalize && square > 0.0 ? 1.0 / std::sqrt(square) : 1.0;
      for (int64_t e = first; e < last; ++e) {
        const float value = static_cast<float>((x.values != nullptr ? x.values[e] : 1.0) * scale);
        out[e] = drop.active() ? value * dropout_at(drop, t, x.col_idx[e], n_groups) : value;
      }
    }
  });
}

}  // namespace recsys_fast
