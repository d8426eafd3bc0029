// What dense and convolutional layers share: padded copies of weights, rows of any width, memory of one call.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/arena.h"
#include "core/dropout.h"
#include "core/gemm.h"
#include "ops/conv.h"

namespace recsys_fast {

// Memory of a call for what all of its workers read or that outlives their tiles; they have thread_arena for the rest.
inline Arena& call_arena() {
  thread_local Arena arena;
  return arena;
}

inline Dropout mask_of(const DropoutMask& mask) { return Dropout(mask.rate, mask.seed, mask.step, mask.site); }

// The first min(n, kLanes) elements at p, zeros behind them.
RF_INLINE Vec load_up_to(const float* p, int64_t n) { return n >= kLanes ? load(p) : load_first(p, n); }
RF_INLINE VecInt load_up_to(const int32_t* p, int64_t n) { return n >= kLanes ? load(p) : load_first(p, n); }
RF_INLINE void store_up_to(float* p, Vec v, int64_t n) {
  if (n >= kLanes) {
    store(p, v);
  } else {
    store_first(p, v, n);
  }
}

// Lanes from n on become 0.
RF_INLINE Vec keep_first(Vec v, int64_t n) {
  if (n >= kLanes) return v;
  VecInt lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane < static_cast<int32_t>(n) ? v : Vec{};
}

// Rows of width d -> rows padded(d) apart, zeros behind the width.
inline void pad_rows(float* out, const float* in, int64_t n, int64_t d) {
  const int64_t dp = padded(d);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t k = 0; k < dp; k += kLanes) store(out + i * dp + k, load_up_to(in + i * d + k, d - k));
  }
}
inline void unpad_rows(float* out, const float* in, int64_t n, int64_t d) {
  const int64_t dp = padded(d);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t k = 0; k < d; k += kLanes) store_up_to(out + i * d + k, load(in + i * dp + k), d - k);
  }
}

// out (n_j, padded(n_i)) = transpose of in (n_i, n_j), zeros behind n_i.
inline void pad_transposed(float* out, const float* in, int64_t n_i, int64_t n_j) {
  const int64_t row = padded(n_i), whole_i = n_i / kLanes * kLanes, whole_j = n_j / kLanes * kLanes;
  for (int64_t i = 0; i < whole_i; i += kLanes) {
    for (int64_t j = 0; j < whole_j; j += kLanes) transpose_tile(out + j * row + i, row, in + i * n_j + j, n_j);
  }
  for (int64_t j = 0; j < n_j; ++j) {
    for (int64_t i = j < whole_j ? whole_i : 0; i < row; ++i) out[j * row + i] = i < n_i ? in[i * n_j + j] : 0.0f;
  }
}

// Calls tile.template operator()<MR, NV>() with MR = n_rows <= MaxRows and NV = n_vectors <= MaxVectors.
template <int MaxRows, int MaxVectors, class Tile>
RF_INLINE void with_tile(int64_t n_rows, int64_t n_vectors, Tile&& tile) {
  if constexpr (MaxRows > 1) {
    if (n_rows < MaxRows) return with_tile<MaxRows - 1, MaxVectors>(n_rows, n_vectors, tile);
  }
  if constexpr (MaxVectors > 1) {
    if (n_vectors < MaxVectors) return with_tile<MaxRows, MaxVectors - 1>(n_rows, n_vectors, tile);
  }
  tile.template operator()<MaxRows, MaxVectors>();
}

}  // namespace recsys_fast
