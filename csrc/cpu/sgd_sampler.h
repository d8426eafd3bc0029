// The random words of a visit for ops/sgd_sampler.h.
#pragma once

#include "core/rng_lanes.h"
#include "cpu/id_row.h"
#include "ops/sgd_sampler.h"

namespace recsys_fast {

// The random words of one visit in order: the first n (a multiple of 4) were made with those of other visits, the rest
// are made a vector of generators at a time.
class SgdWords {
 public:
  SgdWords(uint64_t seed, uint32_t epoch, uint64_t sample, uint32_t block, const uint32_t* first, int n)
      : seed_(seed),
        epoch_(epoch),
        sample_(sample),
        next_block_(block + static_cast<uint32_t>(n / 4)),
        at_(first),
        end_(first + n) {}

  uint32_t next() {
    if (at_ == end_) refill();
    return *at_++;
  }
  double unit() {  // 53 bits of two words
    const uint64_t high = next();
    return static_cast<double>((high << 32 | next()) >> 11) * 0x1p-53;
  }
  void skip(int64_t n) {
    for (; n > 0; --n) next();
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

// to_range of a vector of words.
RF_INLINE VecInt to_range_lanes(const uint32_t* words, int64_t n) {
  VecWide pair;
  std::memcpy(&pair, words, sizeof pair);
  const VecWide range = VecWide{} + static_cast<uint64_t>(n);
  const VecWide low = multiply_low(pair, range) >> 32, high = multiply_low(pair >> 32, range);
  return reinterpret_cast<VecInt>(low | (high & uint64_t{0xFFFFFFFF00000000u}));
}

// Bit i of the result: lane i of `ids` is in the row.
RF_INLINE uint32_t contained(const IdRow& row, VecInt ids) {
  constexpr int64_t kFew = 48;
  uint32_t found = 0;
  if (row.n <= kFew) {
    for (int64_t t = 0; t < row.n; ++t) found |= mask_eq(ids, VecInt{} + row.ids[t]);
  } else {
    for (int lane = 0; lane < kLanes; ++lane) found |= static_cast<uint32_t>(row.contains(ids[lane])) << lane;
  }
  return found;
}

// Uniform draws, a vector at a time: out (room for kLanes more) gets what n calls of sampler.draw would give for
// these words. Returns the number of words they took; 0: these words do not tell, so draw one by one.
RF_INLINE int draw_lanes(int32_t* out, int n, const SgdSampler& sampler, const IdRow& seen, const uint32_t* words,
                         int n_words) {
  const SgdBlock& block = sampler.block();
  if (block.n == seen.n) return 0;
  int found = 0, rejected = 0;
  for (int at = 0; at < n_words; at += kLanes) {
    const uint32_t lanes = first_lanes(n_words - at);
    const VecInt rank = to_range_lanes(words + at, block.n);
    const VecInt ids = block.members != nullptr ? gather(block.members, rank) : rank;
    const uint32_t good = ~contained(seen, ids) & lanes;
    found += compress(out + found, ids, good);
    rejected += __builtin_popcount(lanes & ~good);
    if (rejected >= SgdSampler::kTries) return 0;  // one of the draws may have taken the exact way
    if (found < n) continue;
    uint32_t last = good;  // its bit of the n-th item
    for (int more = found - n; more > 0; --more) last &= ~(uint32_t{1} << (31 - __builtin_clz(last)));
    return at + 32 - __builtin_clz(last);
  }
  return 0;
}

}  // namespace recsys_fast
