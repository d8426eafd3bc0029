// Rows of a matrix by length, longest first, and the queue from which blocks take them: a block that got a heavy row
// takes fewer of the others, and nothing heavy is left for the end.
#pragma once

#include "core/views.h"
#include "cuda/kernel.h"

namespace recsys_fast {

// Slot s holds the rows of 2^(30 - s) < n <= 2^(31 - s) entries, slot 31 those with one, slot 32 the empty ones.
constexpr int kAlsSlots = 33;

RF_HOST_DEVICE inline int als_slot(int64_t n) {
  if (n == 0) return 32;
  int bits = 0;
  for (int64_t rest = n - 1; rest > 0; rest >>= 1) ++bits;
  return 31 - bits;
}

// Device pointers: rows (n) sorted by slot, counts (kAlsSlots) rows per slot.
struct AlsOrder {
  int32_t* rows;
  int32_t* counts;
};

// Places [first, last) in the order of the rows of some slots, and how many have been taken from their front.
struct AlsQueue {
  int first_slot, last_slot;
  int32_t* taken;
};

// A block's way through a queue. place: one element; all threads call next() together.
inline __device__ int64_t als_next_row(const AlsOrder& order, const AlsQueue& queue, Shared<int32_t> place) {
  __syncthreads();  // the place before has been read, and everything of the row before is done
  if (threadIdx.x == 0) {
    int32_t before = 0, within = 0;
    for (int s = 0; s < queue.last_slot; ++s) (s < queue.first_slot ? before : within) += order.counts[s];
    const int32_t at = atomicAdd(queue.taken, 1);
    place[0] = at < within ? order.rows[before + at] : -1;
  }
  __syncthreads();
  return place[0];
}

// counts must be zero; fill (kAlsSlots), zero: scratch. Every row's place within its slot is left to chance, which no
// result depends on.
void als_sort_rows(const AlsOrder& order, int32_t* fill, Csr matrix, Stream stream);

}  // namespace recsys_fast
