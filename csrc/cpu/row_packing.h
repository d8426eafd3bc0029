// Copies of rows for products: padded to whole vectors, transposed, or back to rows of any width.
#pragma once

#include <algorithm>

#include "core/arena.h"
#include "core/row_ends.h"

namespace recsys_fast {

// Floats from row to row in a copy of rows of width d whose panels of columns are to stay in L1 together: rows 512
// bytes apart, or a multiple of that, fall into few of its sets.
constexpr int64_t spread(int64_t d) { return padded(d) % 128 == 0 ? padded(d) + 16 : padded(d); }

// out (n, padded(m)) = rows (n, m) that are `row` apart, zeros behind them; out's rows are out_row apart, padded(m)
// where it is 0.
inline void pack_rows(float* out, const float* rows, int64_t row, int64_t n, int64_t m, int64_t out_row = 0) {
  const int64_t mp = padded(m);
  if (out_row == 0) out_row = mp;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t k = 0; k < mp; k += kLanes) store(out + i * out_row + k, load_up_to(rows + i * row + k, m - k));
  }
}

// out (m, padded(n)) = the transpose of rows (n, m) that are `row` apart, zeros behind its rows; out_row as above.
inline void pack_transpose(float* out, const float* rows, int64_t row, int64_t n, int64_t m, int64_t out_row = 0) {
  const int64_t np = padded(n);
  if (out_row == 0) out_row = np;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    int64_t j = 0;
    for (; j + kLanes <= m; j += kLanes) transpose_tile(out + j * out_row + i, out_row, rows + i * row + j, row);
    for (; j < m; ++j) {
      for (int64_t k = i; k < i + kLanes; ++k) out[j * out_row + k] = rows[k * row + j];
    }
  }
  for (int64_t j = 0; j < m; ++j) {
    for (int64_t k = i; k < n; ++k) out[j * out_row + k] = rows[k * row + j];
    std::fill(out + j * out_row + n, out + j * out_row + np, 0.0f);
  }
}

// Copies rows of width d between arrays whose rows are out_row and in_row apart; writes nothing behind d.
inline void copy_rows(float* out, int64_t out_row, const float* in, int64_t in_row, int64_t n, int64_t d) {
  for (int64_t i = 0; i < n; ++i) {
    float* to = out + i * out_row;
    const float* from = in + i * in_row;
    int64_t k = 0;
    for (; k + kLanes <= d; k += kLanes) store(to + k, load(from + k));
    if (k < d) store_first(to + k, load_first(from + k, d - k), d - k);
  }
}

// A vector of n numbers in the arena with zeros up to padded(n); null where it is absent.
inline float* padded_vector(Arena& arena, const float* v, int64_t n) {
  if (v == nullptr) return nullptr;
  float* out = arena.take<float>(padded(n));
  pack_rows(out, v, n, 1, n);
  return out;
}

}  // namespace recsys_fast
