// Dropout masks for vectors of columns; core/dropout_hash.h says what a mask is.
#pragma once

#include "core/dropout_hash.h"
#include "core/simd.h"

namespace recsys_fast {

// Hashes of lanes first to first + kLanes of a group of a row; first < 16 is a multiple of kLanes. A group's lower
// half of columns looks at the lower halves of the hashes (dropout_low), its upper half at the upper ones.
RF_INLINE VecBits dropout_bits(const Dropout& drop, int64_t row, int64_t group, int first, int64_t n_groups) {
  VecBits x;
  for (int i = 0; i < kLanes; ++i) x[i] = static_cast<uint32_t>(i);
  x += static_cast<uint32_t>((row * n_groups + group) * 16 + first);
  x = x * drop.factor + drop.offset;
  x = (x ^ (x >> 16)) * 0x7FEB352Du;
  x = (x ^ (x >> 15)) * 0x846CA68Bu;
  return x ^ (x >> 16);
}
RF_INLINE Vec dropout_low(const Dropout& drop, VecBits bits) {
  return (bits & 0xFFFFu) < drop.threshold ? Vec{} : broadcast(drop.scale);
}
RF_INLINE Vec dropout_high(const Dropout& drop, VecBits bits) {
  return (bits >> 16) < drop.threshold ? Vec{} : broadcast(drop.scale);
}

// x[0 .. n_columns) *= mask of `row`. x has room for padded(n_columns) elements, and those behind are garbage.
RF_INLINE void dropout_row(const Dropout& drop, float* x, int64_t row, int64_t n_columns) {
  const int64_t n_groups = dropout_groups(n_columns);
  for (int64_t group = 0; group < n_groups; ++group) {
    for (int first = 0; first < 16; first += kLanes) {
      float* low = x + group * 32 + first;
      if (group * 32 + first >= n_columns) break;
      const VecBits bits = dropout_bits(drop, row, group, first, n_groups);
      store(low, load(low) * dropout_low(drop, bits));
      if (group * 32 + first + 16 < n_columns) store(low + 16, load(low + 16) * dropout_high(drop, bits));
    }
  }
}

}  // namespace recsys_fast
