#include <algorithm>
#include <cstdint>
#include <cstring>

#include "core/rng.h"
#include "core/thread_pool.h"
#include "ops/negatives.h"

namespace recsys_fast {
namespace {

typedef uint64_t Lanes __attribute__((vector_size(64)));

constexpr int kLanesOfBlocks = 8, kVectors = 2;  // two vectors of counters, whose chains of rounds overlap
constexpr int kBlocks = kVectors * kLanesOfBlocks;
constexpr int64_t kWords = 4 * kBlocks;

// words = draws 4 * block to 4 * (block + kBlocks) - 1 of `sample`: draw4 for consecutive blocks side by side. A lane
// of 64 bits holds one 32-bit word of a counter; what a product leaves above it is masked where the next one reads.
void draw_blocks(uint32_t* words, uint64_t seed, uint32_t epoch, uint64_t sample, uint32_t block) {
  constexpr uint64_t kLow = 0xFFFFFFFFu;
  Lanes c[kVectors][4];
  for (int v = 0; v < kVectors; ++v) {
    c[v][0] = Lanes{} + (sample & kLow);
    c[v][1] = Lanes{} + (sample >> 32);
    c[v][2] = Lanes{} + uint64_t{epoch};
    Lanes blocks{};
    for (int b = 0; b < kLanesOfBlocks; ++b) blocks[b] = block + static_cast<uint32_t>(v * kLanesOfBlocks + b);
    c[v][3] = blocks;
  }
  uint64_t k0 = seed & kLow, k1 = seed >> 32;
  for (int round = 0; round < 10; ++round) {
    for (auto& w : c) {
      const Lanes p0 = (w[0] & kLow) * uint64_t{0xD2511F53u}, p1 = (w[2] & kLow) * uint64_t{0xCD9E8D57u};
      w[0] = (p1 >> 32) ^ w[1] ^ k0;
      w[1] = p1;
      w[2] = (p0 >> 32) ^ w[3] ^ k1;
      w[3] = p0;
    }
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  for (int v = 0; v < kVectors; ++v) {
    const Lanes low = (c[v][0] & kLow) | c[v][1] << 32, high = (c[v][2] & kLow) | c[v][3] << 32;
    for (int b = 0; b < kLanesOfBlocks; ++b) {
      const uint64_t pair[2] = {low[b], high[b]};
      std::memcpy(words + 4 * (v * kLanesOfBlocks + b), pair, sizeof pair);
    }
  }
}

}  // namespace

template <>
void philox_rows<Cpu>(Rows<uint32_t> out, const int64_t* samples, const uint32_t* first, uint64_t seed, uint32_t epoch,
                      int n_threads) {
  const int64_t grain = std::max<int64_t>(1, (int64_t{1} << 15) / std::max<int64_t>(1, out.d));
  parallel_for(out.n, grain, n_threads, [&](int64_t begin, int64_t end, int) {
    uint32_t words[kWords];
    for (int64_t i = begin; i < end; ++i) {
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
