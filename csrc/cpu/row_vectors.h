// Rows of any width without padding, vector by vector: the last one may be short.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/dropout.h"
#include "core/row_ends.h"

namespace recsys_fast {

// Calls use(c, n) for columns [c, c + n), n <= kLanes, of a row of d columns, in order.
template <class Use>
RF_INLINE void for_vectors(int64_t d, Use&& use) {
  int64_t c = 0;
  for (; c + kLanes <= d; c += kLanes) use(c, int64_t{kLanes});
  if (c < d) use(c, d - c);
}

// The same with the dropout mask of these columns of row `row`: use(c, n, mask). Not in order, because one hash serves
// two vectors.
template <class Use>
RF_INLINE void for_masked_vectors(const Dropout& drop, int64_t row, int64_t d, Use&& use) {
  const int64_t n_groups = dropout_groups(d);
  for (int64_t group = 0; group < n_groups; ++group) {
    for (int first = 0; first < 16; first += kLanes) {
      const int64_t low = group * 32 + first, high = low + 16;
      if (low >= d) break;
      const VecBits bits = dropout_bits(drop, row, group, first, n_groups);
      use(low, std::min<int64_t>(kLanes, d - low), dropout_low(drop, bits));
      if (high < d) use(high, std::min<int64_t>(kLanes, d - high), dropout_high(drop, bits));
    }
  }
}

// Threads for a loop over `elements` elements in cache: waking another thread takes longer than what it
// would save of a few us.
inline int threads_for(int64_t elements, int n_threads) { return elements < (int64_t{1} << 15) ? 1 : n_threads; }

// Rows of a chunk of some 16,384 elements.
inline int64_t grain_rows(int64_t d) { return std::max<int64_t>(8, (int64_t{1} << 14) / std::max<int64_t>(1, d)); }

}  // namespace recsys_fast
