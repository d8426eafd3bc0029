// Shared memory of a block, with a shadow of every 4-byte word: who wrote it, who read it, since which barrier.
//
// Two accesses to a word, one of them a write, need something between them: __syncthreads, or __syncwarp for two lanes
// of its mask. Shuffles and votes order nothing, as CUDA says. Atomic updates are in order with each other only.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

namespace recsys_fast::emulated {

// One shared array, or the dynamic shared memory.
struct Region {
  const void* key;
  const char* name;
  size_t begin, bytes;  // within the block's memory
};

enum class Access { kLoad, kStore, kAtomic };

class SharedMemory {
 public:
  SharedMemory();
  void begin_block(size_t dynamic_bytes, unsigned n_threads);

  // The array that `key` stands for in this block; the first thread to ask makes it.
  const Region* array(const void* key, const char* name, size_t bytes);
  const Region* dynamic() const { return &regions_.front(); }
  char* at(const Region& region) { return memory_.data() + region.begin; }

  // Checks an access of the running thread to `bytes` bytes at `offset` of the region, and notes it.
  void touch(const Region& region, int64_t offset, size_t bytes, size_t item_bytes, Access access);

  void barrier_passed() { ++epoch_; }
  void warp_synced(unsigned warp, unsigned mask);

 private:
  struct Word {
    uint32_t block = 0;  // in which it was last written
    uint32_t write_epoch = 0, write_tick = 0, read_epoch = 0, read_tick = 0;
    uint32_t read_lanes = 0;  // of read_warp
    uint16_t writer = 0, read_warp = 0, other_reader = 0;
    bool atomic = false, other_reads = false;  // other_reader: of another warp
  };
  // When lanes of a warp last met in a __syncwarp.
  struct WarpClock {
    uint32_t tick = 1, all = 0;
    std::array<std::array<uint32_t, 32>, 32> pair{};
  };

  bool ordered(unsigned earlier, unsigned later, uint32_t tick) const;
  void load(Word& word, unsigned me, const Region& region, int64_t item);
  void store(Word& word, unsigned me, bool atomic, const Region& region, int64_t item);
  [[noreturn]] void race(const char* mine, const char* theirs, unsigned other, const Region& region, int64_t item);

  std::vector<char> memory_;
  std::vector<Word> words_;
  std::deque<Region> regions_;  // the dynamic one first; a deque keeps addresses
  std::vector<WarpClock> clocks_;
  size_t used_ = 0, static_bytes_ = 0;
  uint32_t epoch_ = 0, block_ = 0;
  unsigned n_threads_ = 0;
};

}  // namespace recsys_fast::emulated
