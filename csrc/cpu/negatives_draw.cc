#include <algorithm>
#include <cstdint>

#include "core/rng.h"
#include "core/rng_lanes.h"
#include "core/thread_pool.h"
#include "ops/negatives.h"

namespace recsys_fast {
namespace {

constexpr uint32_t kDrawBlock = (uint32_t{1} << 30) - 1;  // the last one: other samplers use the first
constexpr int64_t kGrain = 1024;                          // draws of a chunk, some 5 us

// words = the four words of each of kDrawLanes samples from `sample` on.
void draw_samples(uint32_t* words, uint64_t seed, uint32_t epoch, uint64_t sample) {
  uint64_t samples[kDrawLanes];
  uint32_t blocks[kDrawLanes];
  for (int i = 0; i < kDrawLanes; ++i) {
    samples[i] = sample + static_cast<uint64_t>(i);
    blocks[i] = kDrawBlock;
  }
  draw4_lanes(seed, epoch, samples, blocks, words);
}

// item[i] = the first with cdf[item] > x[i]. The halvings do not depend on the data, so that all searches advance
// together and none waits for the memory of another.
template <int n>
void find_items(int32_t* item, const double* cdf, int64_t n_items, const double* x) {
  int64_t begin[n] = {};
  int64_t left = n_items;
  for (; left > 1; left -= left / 2) {
    const int64_t half = left / 2;
    for (int i = 0; i < n; ++i) begin[i] += cdf[begin[i] + half - 1] > x[i] ? 0 : half;
  }
  for (int i = 0; i < n; ++i) item[i] = static_cast<int32_t>(begin[i] + (cdf[begin[i]] > x[i] ? 0 : 1));
}

}  // namespace

template <>
void negatives_draw<Cpu>(int32_t* out, int64_t n, const double* cdf, int64_t n_items, uint64_t seed, uint32_t epoch,
                         uint64_t first, int n_threads) {
  constexpr int kWords = 4 * kDrawLanes;
  const uint64_t per_sample = cdf != nullptr ? 2 : 4;
  const uint64_t per_group = per_sample * kDrawLanes;
  parallel_for(n, kGrain, n <= 2 * kGrain ? 1 : n_threads, [&](int64_t begin, int64_t end, int) {
    uint32_t words[kWords];
    int32_t items[kWords];
    double x[kWords / 2];
    const uint64_t last = first + static_cast<uint64_t>(end);
    uint64_t at = first + static_cast<uint64_t>(begin);
    while (at < last) {
      const uint64_t group = at / per_group * per_group;  // the samples of a group are drawn at once
      draw_samples(words, seed, epoch, group / per_sample);
      if (cdf != nullptr) {
        for (int i = 0; i < kWords / 2; ++i) {
          const uint64_t bits = uint64_t{words[2 * i]} << 32 | words[2 * i + 1];
          x[i] = static_cast<double>(bits >> 11) * 0x1p-53 * cdf[n_items - 1];
        }
        find_items<kWords / 4>(items, cdf, n_items, x);
        find_items<kWords / 4>(items + kWords / 4, cdf, n_items, x + kWords / 4);
      } else {
        for (int i = 0; i < kWords; ++i) items[i] = to_range(words[i], static_cast<int32_t>(n_items));
      }
      const uint64_t stop = std::min(last, group + per_group);
      std::copy(items + (at - group), items + (stop - group), out + (at - first));
      at = stop;
    }
  });
}

}  // namespace recsys_fast
