// Device memory of the emulated grid, with a limit that tests set and launches that they make fail.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>

#include "testing/grid.h"

namespace recsys_fast::emulated {
namespace {

std::mutex mutex;
std::unordered_map<void*, size_t> live;
uint64_t in_use = 0, limit = uint64_t{16} << 30;
std::atomic<int64_t> launches_left{-1};

}  // namespace

void allow_launches(int64_t n) { launches_left = n; }

bool take_launch() {
  if (launches_left < 0) return true;
  return launches_left-- > 0;
}

void set_memory_limit(uint64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  limit = bytes;
}

void* allocate(size_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  if (bytes > limit || in_use > limit - bytes) return nullptr;
  void* memory = std::malloc(bytes);  // NOLINT: its red zones are the address sanitizer's
  if (memory == nullptr) return nullptr;
  std::memset(memory, 0xff, bytes);
  live[memory] = bytes;
  in_use += bytes;
  return memory;
}

void release(void* memory) noexcept {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = live.find(memory);
  in_use -= found->second;
  live.erase(found);
  std::free(memory);
}

uint64_t free_bytes() {
  const std::lock_guard<std::mutex> lock(mutex);
  return limit - (in_use < limit ? in_use : limit);
}

int64_t live_allocations() {
  const std::lock_guard<std::mutex> lock(mutex);
  return static_cast<int64_t>(live.size());
}

}  // namespace recsys_fast::emulated
