// Device memory of the emulated grid, with a limit that tests set and launches that they make fail; and what it says
// about its devices.
#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "core/errors.h"
#include "ops/device.h"
#include "testing/grid.h"

namespace recsys_fast::emulated {
namespace {

struct Allocation {
  size_t bytes;
  int device;
};

std::mutex mutex;
std::map<const char*, Allocation> live;
uint64_t in_use = 0, peak = 0, limit = uint64_t{16} << 30;
std::atomic<int64_t> launches_left{-1}, until_interrupt{0};
std::atomic<bool> fails_for_good{false}, is_lost{false};

}  // namespace

void allow_launches(int64_t n, bool for_good) {
  launches_left = n;
  fails_for_good = for_good;
  is_lost = false;
}

bool take_launch() {
  ++counts().launches;
  if (until_interrupt > 0 && --until_interrupt == 0) std::raise(SIGINT);
  if (launches_left < 0 || launches_left-- > 0) return true;
  is_lost = fails_for_good.load();
  return false;
}

bool lost() { return is_lost; }

void interrupt_at_launch(int64_t n) { until_interrupt = n; }

Counts& counts() {
  static Counts all;
  return all;
}

void set_memory_limit(uint64_t bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  limit = bytes;
}

void* allocate(size_t bytes, int device) {
  ++counts().allocations;
  const std::lock_guard<std::mutex> lock(mutex);
  if (bytes > limit || in_use > limit - bytes) return nullptr;
  void* memory = std::malloc(bytes);  // NOLINT: its red zones are the address sanitizer's
  if (memory == nullptr) return nullptr;
  std::memset(memory, 0xff, bytes);
  live[static_cast<const char*>(memory)] = {bytes, device};
  in_use += bytes;
  peak = std::max(peak, in_use);
  return memory;
}

void release(void* memory) noexcept {
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = live.find(static_cast<const char*>(memory));
  in_use -= found->second.bytes;
  live.erase(found);
  std::free(memory);
}

int device_of(const void* data) {
  const std::lock_guard<std::mutex> lock(mutex);
  const char* place = static_cast<const char*>(data);
  auto after = live.upper_bound(place);
  if (after == live.begin()) return -1;
  --after;
  return place < after->first + after->second.bytes ? after->second.device : -1;
}

uint64_t take_peak() {
  const std::lock_guard<std::mutex> lock(mutex);
  return std::exchange(peak, in_use);
}

uint64_t free_bytes() {
  const std::lock_guard<std::mutex> lock(mutex);
  return limit - (in_use < limit ? in_use : limit);
}

int64_t live_allocations() {
  const std::lock_guard<std::mutex> lock(mutex);
  return static_cast<int64_t>(live.size());
}

Pretend& pretend() {
  static Pretend answers;
  return answers;
}

}  // namespace recsys_fast::emulated

namespace recsys_fast {

DeviceProbe probe_devices() {
  const emulated::Pretend& answers = emulated::pretend();
  return {answers.driver, 13000, answers.driver >= 13000 ? answers.n_devices : 0,
          answers.driver >= 13000 ? "" : "cudaErrorInsufficientDriver (emulated)"};
}

std::string device_name(int index) { return "emulated grid " + std::to_string(index); }

void set_device(int index) {
  if (index < 0 || index >= emulated::pretend().n_devices) throw DeviceFailure("cudaSetDevice: cudaErrorInvalidDevice");
  emulated::pretend().device = index;
}

DeviceMemory device_memory() {
  const uint64_t free = emulated::free_bytes();
  return {free, free};
}

}  // namespace recsys_fast
