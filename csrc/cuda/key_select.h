// Selection among distinct keys by digits, and sorting, by a team of threads: a warp or a block.
#pragma once

#include "cuda/kernel.h"

namespace recsys_fast {

struct WarpTeam {
  __device__ unsigned rank() const { return threadIdx.x % 32; }
  __device__ unsigned size() const { return 32; }
  __device__ void sync() const { __syncwarp(); }
};

struct BlockTeam {
  __device__ unsigned rank() const { return threadIdx.x; }
  __device__ unsigned size() const { return blockDim.x; }
  __device__ void sync() const { __syncthreads(); }
};

inline constexpr int kKeyBins = 256;  // one digit of 8 bits

struct DigitCut {
  uint32_t digit;
  uint32_t above;  // keys of larger digits: fewer than wanted
  uint32_t count;  // keys of the digit itself
};

// The digit at which the count from the top reaches `wanted`. By one warp; a lane sums 8 neighbouring bins.
__device__ inline DigitCut find_digit(Shared<uint32_t> bins, uint32_t wanted) {
  constexpr int kPerLane = kKeyBins / 32;
  const int lane = static_cast<int>(threadIdx.x % 32), top = kKeyBins - 1 - kPerLane * lane;
  uint32_t own = 0;
  for (int i = 0; i < kPerLane; ++i) own += bins[top - i];
  uint32_t upto = own;
  for (int step = 1; step < 32; step *= 2) {
    const uint32_t before = __shfl_up_sync(kFullMask, upto, static_cast<unsigned>(step));
    upto += lane >= step ? before : 0;
  }
  const unsigned reached = __ballot_sync(kFullMask, upto >= wanted);
  const int source = __ffs(static_cast<int>(reached)) - 1;
  DigitCut cut = {static_cast<uint32_t>(top), upto - own, bins[top]};
  if (lane == source) {
    while (cut.above + cut.count < wanted) {
      cut.above += cut.count;
      cut.count = bins[--cut.digit];
    }
  }
  cut.digit = __shfl_sync(kFullMask, cut.digit, source);
  cut.above = __shfl_sync(kFullMask, cut.above, source);
  cut.count = __shfl_sync(kFullMask, cut.count, source);
  return cut;
}

// A value that at least k and at most k + slack of the keys reach, of which there are at least k. for_each(use) calls
// use(key) for this thread's share of the keys. Radix selection from the top: scores differ within two or three digits,
// equal ones are told apart by the ids below. bins (kKeyBins): the team's own, in shared memory.
template <class Team, class ForEach>
__device__ uint64_t reached_by(const Team& team, Shared<uint32_t> bins, uint32_t k, uint32_t slack,
                               ForEach&& for_each) {
  uint64_t prefix = 0;
  for (int shift = 56;; shift -= 8) {
    for (unsigned i = team.rank(); i < kKeyBins; i += team.size()) bins[i] = 0;
    team.sync();
    for_each([&](uint64_t key) {
      const bool inside = shift == 56 || (key ^ prefix) >> (shift + 8) == 0;
      if (inside) atomicAdd(&bins[static_cast<unsigned>(key >> shift) % kKeyBins], 1u);
    });
    team.sync();
    const DigitCut cut = find_digit(bins, k);
    team.sync();  // the bins may be cleared
    prefix |= uint64_t{cut.digit} << shift;
    if (shift == 0 || cut.above + cut.count - k <= slack) return prefix;
    k -= cut.above;
  }
}

// Sorts n keys, a power of two, descending: a bitonic network (Batcher 1968), n / 2 exchanges a step.
template <class Team, class Keys>
__device__ void sort_keys(const Team& team, const Keys& keys, unsigned n) {
  for (unsigned run = 2; run <= n; run *= 2) {
    for (unsigned stride = run / 2; stride > 0; stride /= 2) {
      for (unsigned i = team.rank(); i < n / 2; i += team.size()) {
        const unsigned at = 2 * i - (i & (stride - 1));
        const uint64_t a = keys[at], b = keys[at + stride];
        if ((a < b) == ((at & run) == 0)) {
          keys[at] = b;
          keys[at + stride] = a;
        }
      }
      team.sync();
    }
  }
}

}  // namespace recsys_fast
