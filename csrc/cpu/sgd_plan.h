// The schedule of a deterministic SGD epoch: users and items fall into B blocks each by a hash that changes with the
// epoch. In round r the B cells (b, (b + r) mod B) share neither users nor items, so they run in any order and on any
// number of threads to the same bits; an item block's rows stay in the cache while its cell runs. Negatives come from
// the positive's block.
#pragma once

#include <vector>

#include "cpu/sgd_sampler.h"
#include "ops/sgd.h"

namespace recsys_fast {

// A part of the epoch's entries in the order of training: users ascending, then items; entries: where they are in the
// matrix. Values are copied (or null): looked up one by one they would come from memory.
struct SgdCell {
  const int32_t* users;
  const int32_t* items;
  const int64_t* entries;
  const float* values;
  int64_t n;
};

class SgdPlan {
 public:
  static constexpr int kMostBlocks = 16;

  // rows_per_block: the fewest users and items that make another block worth while.
  static int n_blocks(int64_t n_users, int64_t n_items, int64_t rows_per_block) {
    return static_cast<int>(std::clamp<int64_t>(std::min(n_users, n_items) / rows_per_block, 1, kMostBlocks));
  }

  // cdf: running sums of the items' weights, or null. Valid until the calling thread makes another plan.
  SgdPlan(const SgdProblem& problem, int n_blocks, const double* cdf, int n_threads);
  ~SgdPlan();
  SgdPlan(const SgdPlan&) = delete;
  SgdPlan& operator=(const SgdPlan&) = delete;

  int n_blocks() const { return n_blocks_; }
  SgdCell cell(int user_block, int item_block) const {
    const int64_t c = user_block * n_blocks_ + item_block, begin = cell_begin_[c];
    return {users_ + begin, items_ + begin, entries_ + begin, values_ != nullptr ? values_ + begin : nullptr,
            cell_begin_[c + 1] - begin};
  }
  SgdBlock block(int item_block) const {
    const int64_t begin = item_members_.begin[item_block], end = item_members_.begin[item_block + 1];
    return {item_members_.ids + begin, end - begin, sums_ != nullptr ? sums_ + begin : nullptr, cdf_};
  }

 private:
  // Members of all blocks, one block after the other, ascending within each.
  struct Members {
    int32_t* ids;
    int64_t begin[kMostBlocks + 1];
  };

  void hash(uint8_t* block, int64_t n, uint64_t first_sample, const SgdProblem& problem, int n_threads) const;
  void group(Members& out, const uint8_t* block, int64_t n) const;
  void sum_weights(int n_threads);
  void order_entries(const SgdProblem& problem, int n_threads);

  int n_blocks_;
  const double* cdf_;
  Members user_members_, item_members_;
  uint8_t* item_block_;
  double* sums_ = nullptr;
  int64_t cell_begin_[kMostBlocks * kMostBlocks + 1];
  int32_t *users_, *items_;
  int64_t* entries_;
  float* values_ = nullptr;
};

}  // namespace recsys_fast
