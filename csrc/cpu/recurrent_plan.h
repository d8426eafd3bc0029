// In which order a recurrent layer visits the rows of a batch. It depends on row_ptr only, never on the threads.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/arena.h"
#include "cpu/block_tiles.h"

namespace recsys_fast {

// The sequences that have rows, longest first, cut into tiles that walk through time together: at one place of theirs a
// tile's active sequences are its first ones, and their rows multiply the weights at once. Runs of tiles are slots,
// whose sums of the parameters' gradients are added in order.
struct RecurrentPlan {
  static constexpr int64_t kTileSequences = 128;

  const int64_t* row_ptr;
  int64_t* order;  // (n_filled) sequences by descending length, equal ones ascending
  int64_t* tile;   // (n_tiles + 1) borders in order
  int64_t n_filled, n_tiles, n_slots;
  int64_t slot[kMaxSlots + 1];  // borders in tile

  int64_t length(int64_t place) const { return row_ptr[order[place] + 1] - row_ptr[order[place]]; }
  static int64_t max_slots(int64_t n_rows, int64_t n_sequences);
  static int64_t max_tiles(int64_t n_rows, int64_t n_sequences) {
    return max_slots(n_rows, n_sequences) + n_sequences / kTileSequences;
  }
  static size_t bytes(int64_t n_rows, int64_t n_sequences);
  static RecurrentPlan make(Arena& arena, const int64_t* row_ptr, int64_t n_sequences);
};

// Some steps of a tile, their rows behind each other, as many as the caches hold together with what is made of them.
class RecurrentChunk {
 public:
  static constexpr int64_t kRows = 128;
  static_assert(kRows >= RecurrentPlan::kTileSequences);

  struct Step {
    int64_t place, first, n;  // of the sequences; its rows are rows[first] to rows[first + n]
  };

  // Visits a tile's places upwards, or downwards.
  RecurrentChunk(const RecurrentPlan& plan, int64_t tile, bool upwards)
      : plan_(plan), first_(plan.tile[tile]), n_(plan.tile[tile + 1] - first_), upwards_(upwards) {
    place_ = upwards ? 0 : plan.length(first_) - 1;
    active_ = upwards ? n_ : 0;
  }

  // Takes the next steps; false where there are none.
  bool next();

  const int64_t* sequences() const { return plan_.order + first_; }
  int64_t n_sequences() const { return n_; }

  int64_t n_rows = 0, n_steps = 0;
  int64_t rows[kRows];
  Step steps[kRows];

 private:
  const RecurrentPlan& plan_;
  int64_t first_, n_, place_, active_;
  bool upwards_;
};

}  // namespace recsys_fast
