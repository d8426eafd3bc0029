// Ctrl-C inside native code: whoever keeps the caller waiting asks a poll of the bindings now and then.
#pragma once

#include <chrono>

namespace recsys_fast {

constexpr auto kPollEvery = std::chrono::milliseconds(30);

// Asks the caller's poll at most every kPollEvery, so short loops never touch the interpreter.
class Poller {
 public:
  // Whether the caller wants to stop; `poll` says so by true, and may be null.
  bool due_and_stop(bool (*poll)(), std::chrono::nanoseconds every = kPollEvery) {
    const auto now = std::chrono::steady_clock::now();
    if (poll == nullptr || now - last_ < every) return false;
    const bool stop = poll();
    last_ = std::chrono::steady_clock::now();
    return stop;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

}  // namespace recsys_fast
