#include "testing/shadow.h"

#include <algorithm>
#include <cstring>

#include "testing/grid.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace recsys_fast::emulated {
namespace {

constexpr size_t kMemoryBytes = 256 << 10;
constexpr size_t kLimit = 163 << 10;  // what a block of sm_80 can have; sm_90 has 227 KB
constexpr size_t kStaticLimit = 48 << 10;
constexpr size_t kGuard = 64;
constexpr unsigned kWarp = 32;

std::string name_of(unsigned linear) {
  const Index3 size = here.block_size;
  return "(" + std::to_string(linear % size.x) + ", " + std::to_string(linear / size.x % size.y) + ", " +
         std::to_string(linear / size.x / size.y) + ")";
}

}  // namespace

SharedMemory::SharedMemory() : memory_(kMemoryBytes), words_(kMemoryBytes / 4), clocks_(1024 / kWarp) {}

void SharedMemory::begin_block(size_t dynamic_bytes, unsigned n_threads) {
  ++block_;
  ++epoch_;
  n_threads_ = n_threads;
#ifdef __SANITIZE_ADDRESS__
  ASAN_POISON_MEMORY_REGION(memory_.data(), memory_.size());
#endif
  regions_.clear();
  used_ = static_bytes_ = 0;
  array(nullptr, "dynamic shared memory", dynamic_bytes);
  static_bytes_ = 0;
}

const Region* SharedMemory::array(const void* key, const char* name, size_t bytes) {
  if (key != nullptr) {
    for (const Region& region : regions_) {
      if (region.key == key) return &region;
    }
  }
  static_bytes_ += bytes;
  if (static_bytes_ > kStaticLimit && key != nullptr) {
    fault(std::string("static shared memory: ") + std::to_string(static_bytes_) + " bytes with " + name +
          ", 48 KB is all");
  }
  const size_t begin = used_ + kGuard;
  used_ = (begin + bytes + 15) / 16 * 16;
  if (used_ > memory_.size() || (key != nullptr && regions_.front().bytes + static_bytes_ > kLimit)) {
    fault(std::string("shared memory beyond the 163 KB of a block, with ") + name);
  }
  regions_.push_back({key, name, begin, bytes});
#ifdef __SANITIZE_ADDRESS__
  ASAN_UNPOISON_MEMORY_REGION(memory_.data() + begin, bytes);
#endif
  std::memset(memory_.data() + begin, 0xff, bytes);  // NaN, for pointers that nobody watches
  return &regions_.back();
}

void SharedMemory::warp_synced(unsigned warp, unsigned mask) {
  WarpClock& clock = clocks_[warp];
  ++clock.tick;
  const unsigned lanes = std::min(kWarp, n_threads_ - warp * kWarp);
  const unsigned all = lanes == kWarp ? ~0u : (1u << lanes) - 1;
  if (mask == all) {
    clock.all = clock.tick;
    return;
  }
  for (unsigned a = 0; a < lanes; ++a) {
    for (unsigned b = 0; b < lanes; ++b) {
      if ((mask >> a & 1) != 0 && (mask >> b & 1) != 0) clock.pair[a][b] = clock.tick;
    }
  }
}

// Whether thread `later` is past what thread `earlier` did at `tick` since the last barrier.
bool SharedMemory::ordered(unsigned earlier, unsigned later, uint32_t tick) const {
  if (earlier == later) return true;
  if (earlier / kWarp != later / kWarp) return false;
  const WarpClock& clock = clocks_[later / kWarp];
  return clock.all > tick || clock.pair[earlier % kWarp][later % kWarp] > tick;
}

void SharedMemory::touch(const Region& region, int64_t offset, size_t bytes, size_t item_bytes, Access access) {
  const int64_t item = offset / static_cast<int64_t>(item_bytes);
  if (offset < 0 || offset + static_cast<int64_t>(bytes) > static_cast<int64_t>(region.bytes)) {
    fault(std::string(region.name) + "[" + std::to_string(item) + "]: out of bounds, the array has " +
          std::to_string(region.bytes / item_bytes) + " elements of this size");
  }
  if (static_cast<size_t>(offset) % std::min<size_t>(item_bytes, 16) != 0) {
    fault(std::string(region.name) + ": misaligned access of " + std::to_string(bytes) + " bytes at byte " +
          std::to_string(offset));
  }
  const unsigned me = here.linear;
  Word* word = words_.data() + (region.begin + static_cast<size_t>(offset)) / 4;
  const Word* end = words_.data() + (region.begin + static_cast<size_t>(offset) + bytes + 3) / 4;
  for (; word != end; ++word) {
    if (access == Access::kLoad) {
      load(*word, me, region, item);
    } else {
      store(*word, me, access == Access::kAtomic, region, item);
    }
  }
}

void SharedMemory::load(Word& word, unsigned me, const Region& region, int64_t item) {
  if (word.block != block_)
    fault(std::string(region.name) + "[" + std::to_string(item) + "]: read before it is written");
  if (word.write_epoch == epoch_ && !ordered(word.writer, me, word.write_tick)) {
    race("reads", word.atomic ? "updates" : "writes", word.writer, region, item);
  }
  const unsigned warp = me / kWarp, bit = 1u << me % kWarp;
  const uint32_t tick = clocks_[warp].tick;
  if (word.read_epoch != epoch_) {
    word.read_epoch = epoch_;
    word.read_lanes = 0;
    word.other_reads = false;
    word.read_warp = static_cast<uint16_t>(warp);
  }
  if (word.read_warp != warp) {
    word.other_reads = true;
    word.other_reader = static_cast<uint16_t>(me);
    return;
  }
  word.read_lanes = clocks_[warp].all > word.read_tick ? bit : word.read_lanes | bit;
  word.read_tick = tick;
}

void SharedMemory::store(Word& word, unsigned me, bool atomic, const Region& region, int64_t item) {
  const unsigned warp = me / kWarp;
  if (atomic && word.block != block_) {
    fault(std::string(region.name) + "[" + std::to_string(item) + "]: updated before it is written");
  }
  const char* mine = atomic ? "updates" : "writes";
  if (word.write_epoch == epoch_ && !(atomic && word.atomic) && !ordered(word.writer, me, word.write_tick)) {
    race(mine, word.atomic ? "updates" : "writes", word.writer, region, item);
  }
  if (word.read_epoch == epoch_) {
    if (word.read_warp != warp && word.read_lanes != 0) {
      race(mine, "reads", word.read_warp * kWarp + static_cast<unsigned>(__builtin_ctz(word.read_lanes)), region, item);
    }
    if (word.other_reads && word.other_reader / kWarp != warp) race(mine, "reads", word.other_reader, region, item);
    for (unsigned lanes = word.read_warp == warp ? word.read_lanes : 0; lanes != 0; lanes &= lanes - 1) {
      const unsigned other = warp * kWarp + static_cast<unsigned>(__builtin_ctz(lanes));
      if (!ordered(other, me, word.read_tick)) race(mine, "reads", other, region, item);
    }
  }
  word.block = block_;
  word.write_epoch = epoch_;
  word.write_tick = clocks_[warp].tick;
  word.writer = static_cast<uint16_t>(me);
  word.atomic = atomic;
}

void SharedMemory::race(const char* mine, const char* theirs, unsigned other, const Region& region, int64_t item) {
  fault(std::string("race: ") + mine + " " + region.name + "[" + std::to_string(item) + "], which thread " +
        name_of(other) + " " + theirs + " with no barrier between");
}

}  // namespace recsys_fast::emulated
