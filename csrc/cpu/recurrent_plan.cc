#include "cpu/recurrent_plan.h"

#include <algorithm>

namespace recsys_fast {

// A slot costs as much as some eight rows.
int64_t RecurrentPlan::max_slots(int64_t n_rows, int64_t n_sequences) {
  return std::min(count_slots(n_rows, 32), count_slots(n_sequences, 8));
}

size_t RecurrentPlan::bytes(int64_t n_rows, int64_t n_sequences) {
  return Arena::padded<int64_t>(static_cast<size_t>(n_sequences)) +
         Arena::padded<int64_t>(static_cast<size_t>(max_tiles(n_rows, n_sequences) + 1));
}

RecurrentPlan RecurrentPlan::make(Arena& arena, const int64_t* row_ptr, int64_t n_sequences) {
  RecurrentPlan plan{};
  plan.row_ptr = row_ptr;
  const int64_t n_rows = row_ptr[n_sequences];
  plan.order = arena.take<int64_t>(static_cast<size_t>(n_sequences));
  plan.tile = arena.take<int64_t>(static_cast<size_t>(max_tiles(n_rows, n_sequences) + 1));
  for (int64_t s = 0; s < n_sequences; ++s) {
    if (row_ptr[s + 1] > row_ptr[s]) plan.order[plan.n_filled++] = s;
  }
  const auto longer = [row_ptr](int64_t a, int64_t b) {
    const int64_t left = row_ptr[a + 1] - row_ptr[a], right = row_ptr[b + 1] - row_ptr[b];
    return left != right ? left > right : a < b;
  };
  if (!std::is_sorted(plan.order, plan.order + plan.n_filled, longer)) {
    std::sort(plan.order, plan.order + plan.n_filled, longer);
  }

  plan.n_slots = max_slots(n_rows, plan.n_filled);
  int64_t place = 0, rows = 0;
  for (int64_t slot = 0; slot < plan.n_slots; ++slot) {
    plan.slot[slot] = plan.n_tiles;
    const int64_t first = place;
    while (place < plan.n_filled && rows < n_rows * (slot + 1) / plan.n_slots) rows += plan.length(place++);
    const int64_t n = place - first, n_tiles = (n + kTileSequences - 1) / kTileSequences;
    for (int64_t t = 0; t < n_tiles; ++t) plan.tile[plan.n_tiles++] = first + n * t / n_tiles;
  }
  plan.slot[plan.n_slots] = plan.n_tiles;
  plan.tile[plan.n_tiles] = plan.n_filled;
  return plan;
}

bool RecurrentChunk::next() {
  n_rows = n_steps = 0;
  while (true) {
    if (upwards_) {
      while (active_ > 0 && plan_.length(first_ + active_ - 1) <= place_) --active_;
    } else {
      while (place_ >= 0 && active_ < n_ && plan_.length(first_ + active_) > place_) ++active_;
    }
    if (place_ < 0 || active_ == 0 || n_rows + active_ > kRows) return n_rows > 0;
    steps[n_steps++] = {place_, n_rows, active_};
    for (int64_t i = 0; i < active_; ++i) rows[n_rows++] = plan_.row_ptr[sequences()[i]] + place_;
    place_ += upwards_ ? 1 : -1;
  }
}

}  // namespace recsys_fast
