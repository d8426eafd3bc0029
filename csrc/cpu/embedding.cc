#include "ops/embedding.h"

#include <algorithm>
#include <array>

#include "core/arena.h"
#include "core/thread_pool.h"
#include "cpu/block_tiles.h"
#include "cpu/row_vectors.h"

namespace recsys_fast {
namespace {

constexpr int64_t kAhead = 8;  // rows of the table that are asked for before they are needed: their order is random

int64_t place_of(const Places& places, int64_t t, int64_t s, int64_t n_positions) {
  return places.from_end ? n_positions - (places.row_ptr[s + 1] - t) : t - places.row_ptr[s];
}

// The sequence of row t: the last that begins at or before it and is not empty.
int64_t sequence_of(const Places& places, int64_t t) {
  return std::upper_bound(places.row_ptr, places.row_ptr + places.n_sequences + 1, t) - places.row_ptr - 1;
}

// Sequences [bound[i], bound[i + 1]) are slot i: whole sequences, about equally many rows each.
struct Slots {
  int64_t n;
  std::array<int64_t, kMaxSlots + 1> bound;
};

Slots slots_of(const Places& places) {
  const int64_t n_rows = places.row_ptr[places.n_sequences];
  Slots slots{most_slots(n_rows), {}};
  for (int64_t i = 0; i <= slots.n; ++i) {
    slots.bound[i] = cut_sequences(places.row_ptr, 0, places.n_sequences, slots.n, i);
  }
  return slots;
}

int64_t longest_of(const Places& places, int64_t first, int64_t last) {
  int64_t longest = 0;
  for (int64_t s = first; s < last; ++s) longest = std::max(longest, places.row_ptr[s + 1] - places.row_ptr[s]);
  return longest;
}

// dout[t] *= mask, sum += dout[t] unless sum is null, dout[t] *= scale.
void backward_row(float* dout, float* sum, int64_t t, int64_t d, const Dropout& drop, float scale) {
  const auto step = [&](int64_t c, int64_t n, Vec x) {
    if (sum != nullptr) store_up_to(sum + c, load_up_to(sum + c, n) + x, n);
    store_up_to(dout + c, x * scale, n);
  };
  if (drop.active()) {
    for_masked_vectors(drop, t, d, [&](int64_t c, int64_t n, Vec mask) { step(c, n, load_up_to(dout + c, n) * mask); });
  } else {
    for_vectors(d, [&](int64_t c, int64_t n) { step(c, n, load_up_to(dout + c, n)); });
  }
}

}  // namespace

template <>
void embedding_forward<Cpu>(Rows<float> out, Rows<const float> table, Rows<const float> positions, const int32_t* ids,
                            Places places, float scale, DropoutMask dropout, int n_threads) {
  const Dropout drop(dropout);
  const int64_t d = out.d;
  parallel_for(out.n, grain_rows(d), threads_for(out.n * d, n_threads), [&](int64_t begin, int64_t end, int) {
    int64_t s = positions.n != 0 ? sequence_of(places, begin) : 0;
    for (int64_t t = begin; t < end; ++t) {
      if (t + kAhead < end && ids[t + kAhead] >= 0) prefetch(table.row(ids[t + kAhead]), 4 * d);
      const float* row = ids[t] >= 0 ? table.row(ids[t]) : nullptr;
      const float* position = nullptr;
      if (positions.n != 0) {
        while (t >= places.row_ptr[s + 1]) ++s;
        position = positions.row(place_of(places, t, s, positions.n));
      }
      float* to = out.row(t);
      const auto sum = [&](int64_t c, int64_t n) {
        const Vec x = row != nullptr ? load_up_to(row + c, n) * scale : Vec{};
        return position != nullptr ? x + load_up_to(position + c, n) : x;
      };
      if (drop.active()) {
        for_masked_vectors(drop, t, d,
                           [&](int64_t c, int64_t n, Vec mask) { store_up_to(to + c, sum(c, n) * mask, n); });
      } else {
        for_vectors(d, [&](int64_t c, int64_t n) { store_up_to(to + c, sum(c, n), n); });
      }
    }
  });
}

template <>
void embedding_backward<Cpu>(Rows<float> dout, Rows<float> dpositions, Places places, float scale, DropoutMask dropout,
                             int n_threads) {
  const Dropout drop(dropout);
  const int64_t d = dout.d;
  const int team = threads_for(dout.n * d, n_threads);
  if (dpositions.n == 0) {
    if (!drop.active() && scale == 1.0f) return;
    parallel_for(dout.n, grain_rows(d), team, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) backward_row(dout.row(t), nullptr, t, d, drop, scale);
    });
    return;
  }
  const Slots slots = slots_of(places);
  const int64_t longest = longest_of(places, 0, places.n_sequences);
  const int64_t shift = places.from_end ? dpositions.n - longest : 0;  // place of the first row of a partial sum
  Arena& arena = thread_arena();
  arena.reset((slots.n - 1) * Arena::padded<float>(longest * d));
  std::array<float*, kMaxSlots> sums;  // the first slot's sum becomes that of all
  sums[0] = dpositions.row(shift);
  for (int64_t i = 1; i < slots.n; ++i) sums[i] = arena.take<float>(longest * d);
  parallel_for(slots.n, 1, team, [&](int64_t slot, int64_t, int) {
    std::fill(sums[slot], sums[slot] + longest * d, 0.0f);
    for (int64_t s = slots.bound[slot]; s < slots.bound[slot + 1]; ++s) {
      for (int64_t t = places.row_ptr[s]; t < places.row_ptr[s + 1]; ++t) {
        float* sum = sums[slot] + (place_of(places, t, s, dpositions.n) - shift) * d;
        backward_row(dout.row(t), sum, t, d, drop, scale);
      }
      check_interrupt();
    }
  });
  for (int64_t i = 1; i < slots.n; ++i) axpy(sums[0], 1.0f, sums[i], longest * d);
  std::fill(dpositions.data, dpositions.row(shift), 0.0f);
  std::fill(dpositions.row(shift + longest), dpositions.row(dpositions.n), 0.0f);
}

template <>
void dropout_apply<Cpu>(Rows<float> x, DropoutMask dropout, int n_threads) {
  const Dropout drop(dropout);
  if (!drop.active()) return;
  parallel_for(x.n, grain_rows(x.d), threads_for(x.n * x.d, n_threads), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      float* row = x.row(t);
      for_masked_vectors(drop, t, x.d, [&](int64_t c, int64_t n, Vec mask) {
        store_up_to(row + c, load_up_to(row + c, n) * mask, n);
      });
    }
  });
}

}  // namespace recsys_fast
