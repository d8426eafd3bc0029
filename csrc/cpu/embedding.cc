#include "ops/embedding.h"

#include <algorithm>

#include "core/arena.h"
#include "core/dropout.h"
#include "core/simd.h"
#include "core/thread_pool.h"
#include "cpu/row_slots.h"

namespace recsys_fast {
namespace {

constexpr int64_t kGrainElements = int64_t{1} << 14;  // elements of a chunk: some 2 us of work
constexpr int64_t kAhead = 8;                         // rows of the table that are asked for before they are needed

int64_t grain_rows(int64_t d) { return std::max<int64_t>(8, kGrainElements / std::max<int64_t>(1, d)); }

// The mask of columns [c, c + kLanes) of a row, c a multiple of kLanes; a vector lies in one half of a group of 32.
RF_INLINE Vec mask_of(const Dropout& drop, int64_t row, int64_t c, int64_t n_groups) {
  const int first = static_cast<int>(c % 16);
  const VecBits bits = dropout_bits(drop, row, c / 32, first, n_groups);
  return c % 32 < 16 ? dropout_low(drop, bits) : dropout_high(drop, bits);
}

// use(c, lanes) for the whole vectors of a row of d columns, and for the columns that are left.
template <class Use>
RF_INLINE void for_vectors(int64_t d, Use&& use) {
  int64_t c = 0;
  for (; c + kLanes <= d; c += kLanes) use(c, std::integral_constant<int64_t, kLanes>{});
  if (c < d) use(c, d - c);
}

RF_INLINE Vec load_some(const float* p, std::integral_constant<int64_t, kLanes>) { return load(p); }
RF_INLINE Vec load_some(const float* p, int64_t n) { return load_first(p, n); }
RF_INLINE void store_some(float* p, Vec v, std::integral_constant<int64_t, kLanes>) { store(p, v); }
RF_INLINE void store_some(float* p, Vec v, int64_t n) { store_first(p, v, n); }

// x (d) <- mask of row t times x, by the same bits as dropout_row but without room behind the row.
}  // namespace
}  // namespace recsys_fast
