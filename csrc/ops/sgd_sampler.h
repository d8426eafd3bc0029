// Verified negatives: items of a block that are not in the user's row. The same arithmetic on every device; a row (ids,
// n, contains(id)) and the random words of a visit (next(), unit()) are the device's own.
#pragma once

#include "core/rng.h"
#include "core/sorted_ids.h"

namespace recsys_fast {

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

  RF_HOST_DEVICE explicit SgdSampler(const SgdBlock& block) : block_(block) {}

  RF_HOST_DEVICE const SgdBlock& block() const { return block_; }
  RF_HOST_DEVICE int32_t item(int64_t index) const {
    return block_.members != nullptr ? block_.members[index] : static_cast<int32_t>(index);
  }
  RF_HOST_DEVICE bool uniform() const { return block_.sums == nullptr; }
  // The first try of a uniform draw.
  RF_HOST_DEVICE int32_t pick(uint32_t word) const { return item(to_range(word, static_cast<int32_t>(block_.n))); }

  // A member that is not in `seen` (all of the user's items in the block, ascending); -1: there is none. Tries first,
  // then the exact way, whose distribution is the same.
  template <class Row, class Words>
  RF_HOST_DEVICE int32_t draw(const Row& seen, Words& words) const {
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
  template <class Row, class Words>
  RF_HOST_DEVICE int32_t draw_weighted(const Row& seen, Words& words) const {
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

  RF_HOST_DEVICE double weight(int32_t i) const { return i > 0 ? block_.cdf[i] - block_.cdf[i - 1] : block_.cdf[0]; }

  // Calls use(item) for the members outside `seen`, ascending, until it says stop.
  template <class Row, class Use>
  RF_HOST_DEVICE void for_absent(const Row& seen, Use&& use) const {
    int64_t t = 0;
    for (int64_t index = 0; index < block_.n; ++index) {
      const int32_t candidate = item(index);
      while (t < seen.n && seen.ids[t] < candidate) ++t;
      if (t < seen.n && seen.ids[t] == candidate) continue;
      if (use(candidate)) return;
    }
  }

  template <class Row>
  RF_HOST_DEVICE int32_t nth_absent_member(const Row& seen, int64_t left) const {
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
