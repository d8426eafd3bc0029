// The order of an epoch's samples: a permutation that is computed place by place, so that nothing has to be shuffled
// or stored. Same numbers as recsys_fast/_numba/fm_batches.py.
#pragma once

#include <cstdint>

#include "core/rng.h"

namespace recsys_fast {

// Rounds of add, multiply and xor-shift, each a bijection of the numbers below a power of two; a result that is not
// below n goes round again (cycle walking). The keys come from the counter-based generator.
class FmOrder {
 public:
  FmOrder(uint64_t seed, uint32_t epoch, int64_t n) : n_(static_cast<uint64_t>(n)) {
    int bits = 1;
    while (bits < 63 && int64_t{1} << bits < n) ++bits;
    mask_ = (uint64_t{1} << bits) - 1;
    shift_ = (bits + 1) / 2;
    for (uint32_t r = 0; r < kRounds; ++r) {
      const Philox words = draw4(seed, epoch, ~uint64_t{0}, r);
      add_[r] = uint64_t{words[0]} | uint64_t{words[1]} << 32;
      multiply_[r] = uint64_t{words[2]} | uint64_t{words[3]} << 32 | 1;
    }
  }

  RF_HOST_DEVICE int64_t operator()(int64_t place) const {
    auto x = static_cast<uint64_t>(place);
    do {
      for (uint32_t r = 0; r < kRounds; ++r) {
        x = (x + add_[r]) * multiply_[r] & mask_;
        x ^= x >> shift_;
      }
    } while (x >= n_);
    return static_cast<int64_t>(x);
  }

 private:
  static constexpr uint32_t kRounds = 4;
  uint64_t n_, mask_, add_[kRounds], multiply_[kRounds];
  int shift_;
};

}  // namespace recsys_fast
