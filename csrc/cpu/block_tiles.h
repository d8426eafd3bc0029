// How the blocks cut packed rows: tiles for what each worker does at once, slots for sums with a fixed tree.
#pragma once

#include <algorithm>

#include "core/arena.h"
#include "core/simd.h"
#include "core/thread_pool.h"

namespace recsys_fast {

inline constexpr int64_t kTileTarget = 64;                // rows of a tile: they stay in L2 through the whole block
inline constexpr int64_t kMaxSlots = 8, kSlotRows = 128;  // copies of the gradients, and the fewest rows for one

// A power of two, so that two or four threads share the slots evenly; depends on the rows only.
inline int64_t count_slots(int64_t n_rows) {
  int64_t n_slots = 1;
  while (n_slots < kMaxSlots && n_rows >= 2 * n_slots * kSlotRows) n_slots *= 2;
  return n_slots;
}

inline int64_t count_tiles(int64_t n_rows) { return std::max<int64_t>(1, n_rows / kTileTarget); }

// Of [first, last) cut into n_parts, where part k begins.
inline int64_t cut_rows(int64_t first, int64_t last, int64_t n_parts, int64_t k) {
  return first + k * (last - first) / n_parts;
}

// The same in whole sequences: the first of sequences [first, last) that begins at or behind part k's row.
inline int64_t cut_sequences(const int64_t* row_ptr, int64_t first, int64_t last, int64_t n_parts, int64_t k) {
  if (k == 0) return first;
  if (k == n_parts) return last;
  const int64_t row = cut_rows(row_ptr[first], row_ptr[last], n_parts, k);
  return std::lower_bound(row_ptr + first, row_ptr + last, row) - row_ptr;
}

// Memory of one call that its workers share: packed weights, gradients of the slots. thread_arena() is a worker's own.
inline Arena& call_arena() {
  thread_local Arena arena;
  return arena;
}

// A vector of n numbers in the arena with zeros up to padded(n); null where it is absent.
inline float* padded_vector(Arena& arena, const float* v, int64_t n) {
  if (v == nullptr) return nullptr;
  float* out = arena.take<float>(padded(n));
  std::copy_n(v, n, out);
  std::fill(out + n, out + padded(n), 0.0f);
  return out;
}

// Room for a tile's rows as a product's result or right side: whole vectors in the last row, whole tiles behind it.
inline int64_t tile_floats(int64_t n_rows, int64_t row) { return (n_rows + kLanes) * row + 4 * kLanes; }

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
      const float* copy = slots + sum.offset + i * mp;
      float* out = sum.out + i * sum.m;
      for (int64_t j = 0; j < sum.m; j += kLanes) {
        Vec total = load(copy + j);
        for (int64_t s = 1; s < n_slots; ++s) total += load(copy + s * slot_floats + j);
        store_first(out + j, total, std::min<int64_t>(kLanes, sum.m - j));
      }
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

// Copies rows of width d between arrays whose rows are out_row and in_row apart.
inline void copy_rows(float* out, int64_t out_row, const float* in, int64_t in_row, int64_t n, int64_t d) {
  for (int64_t i = 0; i < n; ++i) {
    float* to = out + i * out_row;
    const float* from = in + i * in_row;
    int64_t k = 0;
    for (; k + kLanes <= d; k += kLanes) store(to + k, load(from + k));
    if (k < d) store_first(to + k, load_first(from + k, d - k), d - k);
  }
}

}  // namespace recsys_fast
