// Copies of rows for products: padded to whole vectors, transposed, or back to rows of any width.
#pragma once

#include <algorithm>

#include "core/arena.h"
#include "core/row_ends.h"

namespace recsys_fast {

// out (n, padded(m)) = rows (n, m) that are `row` apart, zeros behind them.
inline void pack_rows(float* out, const float* rows, int64_t row, int64_t n, int64_t m) {
  const int64_t mp = padded(m);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t k = 0; k < mp; k += kLanes) store(out + i * mp + k, load_up_to(rows + i * row + k, m - k));
  }
}

// out (m, padded(n)) = the transpose of rows (n, m) that are `row` apart, zeros behind its rows.
inline void pack_transpose(float* out, const float* rows, int64_t row, int64_t n, int64_t m) {
  const int64_t np = padded(n);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    int64_t j = 0;
    for (; j + kLanes <= m; j += kLanes) transpose_tile(out + j * np + i, np, rows + i * row + j, row);
    for (; j < m; ++j) {
      for (int64_t k = i; k < i + kLanes; ++k) out[j * np + k] = rows[k * row + j];
    }
  }
  for (int64_t j = 0; j < m; ++j) {
    for (int64_t k = i; k < n; ++k) out[j * np + k] = rows[k * row + j];
    std::fill(out + j * np + n, out + (j + 1) * np, 0.0f);
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
