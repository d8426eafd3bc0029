// The random words of a visit for ops/sgd_sampler.h.
#pragma once

#include "core/rng_lanes.h"
#include "cpu/id_row.h"
#include "ops/sgd_sampler.h"

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

}  // namespace recsys_fast
