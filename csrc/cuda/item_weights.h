// What regressions of single items by a block of threads share.
#pragma once

#include "cuda/key_select.h"
#include "cuda/rank_key.h"
#include "cuda/reduce.h"
#include "ops/linear.h"

namespace recsys_fast {

// norms (t.n_rows) = |x_i|^2; *negative, which may be null, = whether t holds a number below 0.
void squared_norms(float* norms, int32_t* negative, const Csr& t, Stream stream);

// The next of n items that blocks take from a queue, -1 behind them; all threads call together. taken starts at 0.
inline __device__ int64_t next_item(int32_t* taken, int64_t n, Shared<int32_t> place) {
  __syncthreads();  // the place before has been read, and everything of the item before is done
  if (threadIdx.x == 0) {
    const int32_t at = atomicAdd(taken, 1);
    place[0] = at < n ? at : -1;
  }
  __syncthreads();
  return place[0];
}

struct SelectMemory {
  Shared<uint32_t> bins;     // (kKeyBins)
  Shared<uint32_t> scratch;  // (32)
};
#define RF_SELECT_MEMORY(name)         \
  RF_SHARED(uint32_t, bins, kKeyBins); \
  RF_SHARED(uint32_t, scratch, 32);    \
  const SelectMemory name{bins, scratch};

// Calls put(at, p), at counting up, for the p < n of the `most` largest keys that are not 0, p ascending, and returns
// how many they are. Keys are distinct, or at most `most`. All threads of the block call; what they look at is in
// place.
template <class Key, class Put>
__device__ int64_t keep_largest(int64_t n, int64_t most, const SelectMemory& memory, const Key& key, const Put& put) {
  uint64_t bound = 1;
  if (most < n) {
    uint32_t found = 0;
    for (int64_t p = threadIdx.x; p < n; p += blockDim.x) found += key(p) != 0 ? 1u : 0u;
    if (Block::sum(found, memory.scratch) > most) {
      bound = reached_by(BlockTeam{}, memory.bins, static_cast<uint32_t>(most), 0, [&](auto&& use) {
        for (int64_t p = threadIdx.x; p < n; p += blockDim.x) {
          if (const uint64_t one = key(p); one != 0) use(one);
        }
      });
    }
  }
  int64_t size = 0;
  for (int64_t base = 0; base < n; base += blockDim.x) {
    const int64_t p = base + threadIdx.x;
    const bool kept = p < n && key(p) >= bound;
    const uint32_t place = Block::scan<uint32_t>(kept ? 1u : 0u, memory.scratch);
    if (kept) put(size + place - 1, p);
    size += __syncthreads_count(kept ? 1 : 0);
  }
  return size;
}

}  // namespace recsys_fast
