// Verified negatives, a thread per visit: the items that csrc/cpu/sgd_sampler.h draws, from the same random words.
#pragma once

#include "core/rng.h"
#include "core/views.h"
#include "cuda/kernel.h"

namespace recsys_fast {

// The first t in [0, n) for which above(t), else n; above ascends.
template <class Above>
__device__ int64_t first_above(int64_t n, Above&& above) {
  int64_t begin = 0;
  while (n > 0) {
    const int64_t half = n / 2;
    if (above(begin + half)) {
      n = half;
    } else {
      begin += half + 1;
      n -= half + 1;
    }
  }
  return begin;
}

// A row of ascending ids.
struct IdRow {
  const int32_t* ids;
  int64_t n;
  __device__ bool contains(int32_t id) const {
    const int64_t t = first_above(n, [&](int64_t k) { return ids[k] >= id; });
    return t < n && ids[t] == id;
  }
  // The left-th (from 0) id that is not in the row.
  __device__ int32_t nth_absent(int64_t left) const {
    return static_cast<int32_t>(left + first_above(n, [&](int64_t t) { return ids[t] - t > left; }));
  }
};

// The random words of a visit in order, from word 4 * block on.
class SgdWords {
 public:
  __device__ SgdWords(uint64_t seed, uint32_t epoch, uint64_t sample, uint32_t block)
      : seed_(seed), sample_(sample), epoch_(epoch), block_(block) {}

  __device__ uint32_t next() {
    if (left_ == 0) {
      const Philox words = draw4(seed_, epoch_, sample_, block_++);
      a_ = words[0], b_ = words[1], c_ = words[2], d_ = words[3];
      left_ = 4;
    }
    const uint32_t out = a_;  // the rest moves up: an array indexed at run time would live in memory
    a_ = b_, b_ = c_, c_ = d_;
    --left_;
    return out;
  }
  __device__ double unit() {  // 53 bits of two words
    const uint64_t high = next();
    return static_cast<double>((high << 32 | next()) >> 11) * 0x1p-53;
  }

 private:
  uint64_t seed_, sample_;
  uint32_t epoch_, block_, a_ = 0, b_ = 0, c_ = 0, d_ = 0;
  int left_ = 0;
};

// The items that negatives of one block are drawn from.
struct SgdBlock {
  const int32_t* members;  // ascending; null: all items
  int64_t n;
  const double* sums;  // (n) running sums of the members' weights; null: uniform
  const double* cdf;   // (n_items) running sums of all weights
};

class SgdSampler {
 public:
  static constexpr int kTries = 16;

  __device__ explicit SgdSampler(const SgdBlock& block) : block_(block) {}

  // A member that is not in `seen` (all of the user's items in the block); -1: there is none. Tries first, then the
  // exact way, whose distribution is the same.
  __device__ int32_t draw(IdRow seen, SgdWords& words) const {
    if (block_.n == seen.n) return -1;
    if (block_.sums != nullptr) return draw_weighted(seen, words);
    for (int i = 0; i < kTries; ++i) {
      const int32_t candidate = item(to_range(words.next(), static_cast<int32_t>(block_.n)));
      if (!seen.contains(candidate)) return candidate;
    }
    int64_t left = to_range(words.next(), static_cast<int32_t>(block_.n - seen.n));
    if (block_.members == nullptr) return seen.nth_absent(left);
    int32_t out = -1;
    for_absent(seen, [&](int32_t candidate) {
      out = candidate;
      return left-- == 0;
    });
    return out;
  }

 private:
  __device__ int32_t item(int64_t index) const {
    return block_.members != nullptr ? block_.members[index] : static_cast<int32_t>(index);
  }
  __device__ double weight(int32_t i) const { return i > 0 ? block_.cdf[i] - block_.cdf[i - 1] : block_.cdf[0]; }

  __device__ int32_t draw_weighted(IdRow seen, SgdWords& words) const {
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

  // Calls use(item) for the members outside `seen`, ascending, until it says stop.
  template <class Use>
  __device__ void for_absent(IdRow seen, Use&& use) const {
    int64_t t = 0;
    for (int64_t index = 0; index < block_.n; ++index) {
      const int32_t candidate = item(index);
      while (t < seen.n && seen.ids[t] < candidate) ++t;
      if (t < seen.n && seen.ids[t] == candidate) continue;
      if (use(candidate)) return;
    }
  }

  SgdBlock block_;
};

}  // namespace recsys_fast
