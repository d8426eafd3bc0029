#include <algorithm>
#include <cstdint>

#include "core/rng_lanes.h"
#include "core/thread_pool.h"
#include "ops/negatives.h"

namespace recsys_fast {
namespace {

constexpr int64_t kWords = 4 * kDrawLanes;

// words = draws 4 * block to 4 * (block + kDrawLanes) - 1 of `sample`.
void draw_blocks(uint32_t* words, uint64_t seed, uint32_t epoch, uint64_t sample, uint32_t block) {
  uint64_t samples[kDrawLanes];
  uint32_t blocks[kDrawLanes];
  for (int i = 0; i < kDrawLanes; ++i) {
    samples[i] = sample;
    blocks[i] = block + static_cast<uint32_t>(i);
  }
  draw4_lanes(seed, epoch, samples, blocks, words);
}

// words (kDrawLanes, 4) = draws first[i] to first[i] + 3 of samples[i], where those are whole blocks; whether they are.
bool draw_rows(uint32_t* words, uint64_t seed, uint32_t epoch, const int64_t* samples, const uint32_t* first) {
  uint64_t ids[kDrawLanes];
  uint32_t blocks[kDrawLanes], rest = 0;
  for (int i = 0; i < kDrawLanes; ++i) {
    ids[i] = static_cast<uint64_t>(samples[i]);
    blocks[i] = first[i] / 4;
    rest |= first[i] % 4;
  }
  if (rest != 0) return false;
  draw4_lanes(seed, epoch, ids, blocks, words);
  return true;
}

}  // namespace

template <>
void philox_rows<Cpu>(Rows<uint32_t> out, const int64_t* samples, const uint32_t* first, uint64_t seed, uint32_t epoch,
                      int n_threads) {
  const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 15) / std::max<int64_t>(1, out.d));
  parallel_for(out.n, grain, n_threads, [&](int64_t begin, int64_t end, int) {
    uint32_t words[kWords];
    for (int64_t i = begin; i < end; ++i) {
      if (out.d == 4 && i + kDrawLanes <= end && draw_rows(out.row(i), seed, epoch, samples + i, first + i)) {
        i += kDrawLanes - 1;
        continue;
      }
      const auto sample = static_cast<uint64_t>(samples[i]);
      uint32_t* row = out.row(i);
      int64_t done = 0;
      while (done < out.d) {
        const uint32_t k = first[i] + static_cast<uint32_t>(done);
        if (out.d - done < kWords / 4) {  // a group would be mostly thrown away
          row[done++] = draw(seed, epoch, sample, k);
          continue;
        }
        draw_blocks(words, seed, epoch, sample, k / 4);
        const int64_t n = std::min(out.d - done, kWords - k % 4);
        std::copy_n(words + k % 4, n, row + done);
        done += n;
      }
    }
  });
}

}  // namespace recsys_fast
