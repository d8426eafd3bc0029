// Verified negatives: items of a block that are not in the user's row.
#pragma once

#include <algorithm>

#include "core/rng_lanes.h"
#include "cpu/id_row.h"

namespace recsys_fast {

// The random words of one visit in order: the first four were made with those of other visits, the rest are made a
// vector of generators at a time.
class SgdWords {
 public:
  SgdWords(uint64_t seed, uint32_t epoch, uint64_t sample, uint32_t block, const uint32_t* first_four)
      : seed_(seed), epoch_(epoch), sample_(sample), next_block_(block + 1), at_(first_four), end_(first_four + 4) {}

  uint32_t next() {
    if (at_ == end_) refill();
    return *at_++;
  }
  double unit() {  // 53 bits of two words
    const uint64_t high = next();
    return static_cast<double>((high << 32 | next()) >> 11) * 0x1p-53;
  }

 private:
  void refill() {
    uint64_t sample[kDrawLanes];
    uint32_t block[kDrawLanes];
    for (int i = 0; i < kDrawLanes; ++i) {
      sample[i] = sample_;
      block[i] = next_block_ + static_cast<uint32_t>(i);
    }
    next_block_ += kDrawLanes;
    draw4_lanes(seed_, epoch_, sample, block, words_);
    at_ = words_;
    end_ = words_ + 4 * kDrawLanes;
  }

  uint64_t seed_;
  uint32_t epoch_;
  uint64_t sample_;
  uint32_t next_block_;
  const uint32_t *at_, *end_;
  uint32_t words_[4 * kDrawLanes];
};

// The items that negatives of one block are drawn from.
struct SgdBlock {
  const int32_t* members = nullptr;  // ascending; null: all items
  int64_t n = 0;
  const double* sums = nullptr;  // (n) running sums of the members' weights; null: uniform
  const double* cdf = nullptr;   // (n_items) running sums of all weights
};

class SgdSampler {
 public:
  static constexpr int kTries = 16;

  explicit SgdSampler(const SgdBlock& block) : block_(block) {}

  int32_t item(int64_t index) const {
    return block_.members != nullptr ? block_.members[index] : static_cast<int32_t>(index);
  }
  bool uniform() const { return block_.sums == nullptr; }
  // The first try of a uniform draw.
  int32_t pick(uint32_t word) const { return item(to_range(word, static_cast<int32_t>(block_.n))); }

  // A member that is not in `seen` (all of the user's items in the block, ascending); -1: there is none. Tries first,
  // then the exact way, whose distribution is the same.
  int32_t draw(IdRow seen, SgdWords& words) const {
    if (block_.n == seen.n) return -1;
    if (!uniform()) return draw_weighted(seen, words);
    for (int i = 0; i < kTries; ++i) {
      const int32_t candidate = pick(words.next());
      if (!seen.contains(candidate)) return candidate;
    }
    const int64_t left = to_range(words.next(), static_cast<int32_t>(block_.n - seen.n));
    return block_.members != nullptr ? nth_absent_member(seen, left) : nth_absent(seen, left);
  }

 private:
  int32_t draw_weighted(IdRow seen, SgdWords& words) const {
    const double total = block_.sums[block_.n - 1];
    if (!(total > 0.0)) return -1;
    for (int i = 0; i < kTries; ++i) {
      const double x = words.unit() * total;
      const int64_t index = first_above(block_.n, [&](int64_t t) { return block_.sums[t] > x; });
      if (index == block_.n) continue;  // a product rounded up to the total
      const int32_t candidate = item(index);
      if (!seen.contains(candidate)) return candidate;
    }
    double absent = 0.0;
    for_absent(seen, [&](int32_t candidate) {
      absent += weight(candidate);
      return false;
    });
    const double x = words.unit() * absent;
    int32_t out = -1;
    double sum = 0.0;
    for_absent(seen, [&](int32_t candidate) {
      const double w = weight(candidate);
      if (w > 0.0) out = candidate;
      sum += w;
      return sum > x;
    });
    return out;
  }

  double weight(int32_t i) const { return i > 0 ? block_.cdf[i] - block_.cdf[i - 1] : block_.cdf[0]; }

  // Calls use(item) for the members outside `seen`, ascending, until it says stop.
  template <class Use>
  void for_absent(IdRow seen, Use&& use) const {
    int64_t t = 0;
    for (int64_t index = 0; index < block_.n; ++index) {
      const int32_t candidate = item(index);
      while (t < seen.n && seen.ids[t] < candidate) ++t;
      if (t < seen.n && seen.ids[t] == candidate) continue;
      if (use(candidate)) return;
    }
  }

  int32_t nth_absent_member(IdRow seen, int64_t left) const {
    int32_t out = -1;
    for_absent(seen, [&](int32_t candidate) {
      out = candidate;
      return left-- == 0;
    });
    return out;
  }

  SgdBlock block_;
};

}  // namespace recsys_fast
