// How layers cut packed rows: tiles for what each worker does at once, slots for sums with a fixed tree; memory of a
// call, and the sums of slots.
#pragma once

#include <algorithm>

#include "core/arena.h"
#include "core/row_ends.h"
#include "core/thread_pool.h"

namespace recsys_fast {

inline constexpr int64_t kTileTarget = 64;                // rows of a tile: they stay in L2 through the whole block
inline constexpr int64_t kMaxSlots = 8, kSlotRows = 128;  // copies of the gradients, and the fewest rows for one

// Slots of n rows, or other units of which a slot has `least`: depends on the batch only. A power of two, so that two
// or four threads share the slots evenly.
inline int64_t count_slots(int64_t n, int64_t least = kSlotRows) {
  int64_t n_slots = 1;
  while (n_slots < kMaxSlots && n >= 2 * n_slots * least) n_slots *= 2;
  return n_slots;
}
// As many as there are, for slots whose memory or whose sum costs little against their rows.
inline int64_t most_slots(int64_t n, int64_t least = kSlotRows) { return std::clamp<int64_t>(n / least, 1, kMaxSlots); }

inline int64_t count_tiles(int64_t n_rows) { return std::max<int64_t>(1, n_rows / kTileTarget); }

// Of [first, last) cut into n_parts, where part k begins.
inline int64_t cut_rows(int64_t first, int64_t last, int64_t n_parts, int64_t k) {
  return first + k * (last - first) / n_parts;
}

// The first of sequences [first, last) that begins at `row` or behind it; last where there is none.
inline int64_t sequence_at(const int64_t* row_ptr, int64_t first, int64_t last, int64_t row) {
  return std::lower_bound(row_ptr + first, row_ptr + last, row) - row_ptr;
}

// cut_rows in whole sequences: part k begins with the first sequence at or behind its row.
inline int64_t cut_sequences(const int64_t* row_ptr, int64_t first, int64_t last, int64_t n_parts, int64_t k) {
  if (k == 0) return first;
  if (k == n_parts) return last;
  return sequence_at(row_ptr, first, last, cut_rows(row_ptr[first], row_ptr[last], n_parts, k));
}

// Memory of one call that its workers share: packed weights, gradients of the slots. thread_arena() is a worker's own.
inline Arena& call_arena() {
  thread_local Arena arena;
  return arena;
}

// Room for a tile's rows as a product's result or right side: whole vectors in the last row, whole tiles behind it.
inline int64_t tile_floats(int64_t n_rows, int64_t row) { return (n_rows + kLanes) * row + 4 * kLanes; }

// out (m) = the copies (., padded(m)) of one row, slot_floats apart, added in order.
RF_INLINE void add_slot_row(float* out, const float* copies, int64_t slot_floats, int64_t n_slots, int64_t m) {
  for (int64_t j = 0; j < m; j += kLanes) {
    Vec total = load(copies + j);
    for (int64_t s = 1; s < n_slots; ++s) total += load(copies + s * slot_floats + j);
    store_up_to(out + j, total, m - j);
  }
}

// A gradient (n, m) and where its copies begin in the slots; rows of a copy are padded(m) wide. Absent: out is null.
struct SlotSum {
  float* out;
  int64_t n, m;
  int64_t offset = 0;
};

// Places the sums one behind the other; returns the floats of a slot.
inline int64_t place_sums(SlotSum* sums, int64_t n_sums) {
  int64_t at = 0;
  for (int64_t k = 0; k < n_sums; ++k) {
    sums[k].offset = at;
    at += sums[k].n * padded(sums[k].m);
  }
  return at;
}

// out = the copies added in order.
inline void add_slots(const SlotSum& sum, const float* slots, int64_t slot_floats, int64_t n_slots, int n_threads) {
  if (sum.out == nullptr) return;
  const int64_t mp = padded(sum.m);
  const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 17) / (mp * n_slots));
  parallel_for(sum.n, grain, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      add_slot_row(sum.out + i * sum.m, slots + sum.offset + i * mp, slot_floats, n_slots, sum.m);
    }
  });
}

// out (padded(m)) += the sum of n rows; out may be null.
inline void add_column_sums(float* out, const float* rows, int64_t row, int64_t n, int64_t m) {
  if (out == nullptr) return;
  for (int64_t j = 0; j < m; j += kLanes) {
    Vec even = load(out + j), odd = {};
    int64_t i = 0;
    for (; i + 2 <= n; i += 2) {
      even += load(rows + i * row + j);
      odd += load(rows + (i + 1) * row + j);
    }
    if (i < n) even += load(rows + i * row + j);
    store(out + j, even + odd);
  }
}

}  // namespace recsys_fast
