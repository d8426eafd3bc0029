// Ctrl-C while the device works: launches and waits ask the caller's poll. What is on the stream already goes on.
#include <atomic>

#include "core/poller.h"
#include "cuda/kernel.h"
#include "ops/device.h"

namespace recsys_fast {
namespace {

std::atomic<bool (*)()> g_poll{nullptr};
thread_local Poller t_poller;

#ifdef RECSYS_FAST_EMULATED_GRID
constexpr std::chrono::nanoseconds kEvery{0};  // tests count launches
#else
constexpr std::chrono::nanoseconds kEvery = kPollEvery;
#endif

}  // namespace

void set_device_poll(bool (*poll)()) { g_poll.store(poll); }

void check_interrupt() {
  if (t_poller.due_and_stop(g_poll.load(std::memory_order_relaxed), kEvery)) throw Interrupted();
}

}  // namespace recsys_fast
