// The random words of a visit for ops/sgd_sampler.h, a thread per visit: the words that cpu/sgd_sampler.h makes.
#pragma once

#include "core/rng.h"
#include "cuda/id_row.h"
#include "ops/sgd_sampler.h"

namespace recsys_fast {

// The random words of a visit in order, from word 4 * block on.
class SgdWords {
 public:
  RF_HOST_DEVICE SgdWords(uint64_t seed, uint32_t epoch, uint64_t sample, uint32_t block)
      : seed_(seed), sample_(sample), epoch_(epoch), block_(block) {}

  RF_HOST_DEVICE uint32_t next() {
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
  RF_HOST_DEVICE double unit() {  // 53 bits of two words
    const uint64_t high = next();
    return static_cast<double>((high << 32 | next()) >> 11) * 0x1p-53;
  }

 private:
  uint64_t seed_, sample_;
  uint32_t epoch_, block_, a_ = 0, b_ = 0, c_ = 0, d_ = 0;
  int left_ = 0;
};

}  // namespace recsys_fast
