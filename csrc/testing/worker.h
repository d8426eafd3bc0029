// What runs the blocks of an emulated grid: the threads of one block, their fibers, who waits for what.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "testing/fiber.h"
#include "testing/grid.h"
#include "testing/shadow.h"

namespace recsys_fast::emulated {

enum class State : uint8_t { kRunning, kBarrier, kCollective, kDone };

struct Thread {
  Index3 index{};
  unsigned linear = 0;
  State state = State::kRunning;
  Fiber* fiber = nullptr;
  Place place;  // where it waits
  Collective kind{};
  unsigned mask = 0, source = 0;
  uint64_t value = 0, result = 0;
};

// Runs one block at a time.
class Worker {
 public:
  void run_block(const Index3& block, const LaunchShape& shape, const std::function<void()>& kernel);
  void run_threads();
  int barrier(bool predicate, Place place);
  uint64_t meet(Collective kind, unsigned mask, uint64_t value, unsigned source, Place place, Work work = nullptr);
  [[noreturn]] void stop(const std::string& what);

  SharedMemory shared;

 private:
  static std::string describe(const Thread& thread);
  Thread* pick();
  void enter(Thread& thread);
  void wait();
  void make_ready(Thread& thread);
  void release_barrier_if_complete();
  [[noreturn]] void report_deadlock();

  const std::function<void()>* kernel_ = nullptr;
  std::vector<Thread> threads_;
  unsigned n_threads_ = 0, next_ = 0, n_done_ = 0, n_waiting_ = 0, first_waiting_ = 0;
  int count_ = 0, last_count_ = 0;
  Place barrier_place_;
  Thread* current_ = nullptr;
  std::deque<Thread*> ready_;
  Fiber main_{false};
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> free_;
  std::string error_;
};

}  // namespace recsys_fast::emulated
