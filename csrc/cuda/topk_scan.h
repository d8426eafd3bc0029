// The scan that topk and rank_metrics share: the best k items of every query, unsorted, a batch of queries at a time.
// Never a score matrix: tiles of scores live in registers, and only what may be among the best k leaves them.
#pragma once

#include <functional>

#include "cuda/id_row.h"
#include "cuda/kernel.h"
#include "ops/topk.h"

namespace recsys_fast {

struct RankTask {
  Rows<const float> queries, items;
  Eligible eligible;
  int64_t k;              // length of a list, 1 to n_candidates()
  const int32_t* wanted;  // queries to serve; null: all
  int64_t n_wanted;

  RF_HOST_DEVICE int64_t n_candidates() const {
    return eligible.candidates == nullptr ? items.n : eligible.n_candidates;
  }
  __device__ int64_t candidate(int64_t j) const {
    return eligible.candidates == nullptr ? j : int64_t{eligible.candidates[j]};
  }
  __device__ int64_t query(int64_t i) const { return wanted == nullptr ? i : int64_t{wanted[i]}; }
  __device__ IdRow seen(int64_t query) const {
    if (eligible.seen_row_ptr == nullptr) return {nullptr, 0};
    const int64_t begin = eligible.seen_row_ptr[query];
    return {eligible.seen_col_idx + begin, eligible.seen_row_ptr[query + 1] - begin};
  }
};

// The scan of n wanted queries from `first` on. The items are split among n_splits blocks; each leaves its own keys
// (rank_key.h) in any order: the best k of its eligible items, and at most `slack` more.
struct RankBatch {
  RankTask task;
  int64_t first, n;
  uint64_t* keys;   // (n, n_splits, capacity)
  uint32_t* sizes;  // (n, n_splits)
  uint64_t* room;   // (n, sorted_size) to sort in where shared memory is too small for it, else null
  int64_t capacity;
  int64_t split_items;
  int32_t n_splits;
  uint32_t limit;  // size at which a buffer is thinned out
  uint32_t slack;
  uint32_t sorted_size;  // the power of two that holds k + slack keys
};

// Scans all wanted queries of the task and calls finish(batch) after each launch, on the same stream.
void scan_batches(const RankTask& task, const std::function<void(const RankBatch&)>& finish, Stream stream);

// Where rank_finish_kernel sorts: as many keys fit in the shared memory of a block that every device grants.
inline constexpr uint32_t kMostSharedKeys = 4096;

}  // namespace recsys_fast
