#include "testing/grid.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>

#include "testing/worker.h"

namespace recsys_fast::emulated {

__thread Here here __attribute__((tls_model("initial-exec")));

namespace {

constexpr unsigned kWarp = 32;

std::string name(const Index3& i) {
  return "(" + std::to_string(i.x) + ", " + std::to_string(i.y) + ", " + std::to_string(i.z) + ")";
}

std::string name(const Place& place) {
  const std::string file = place.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(place.line());
}

bool same(const Place& a, const Place& b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

void fiber_main() {
  Fiber::arrived();
  here.worker->run_threads();
}

}  // namespace

std::string Worker::describe(const Thread& thread) { return "thread " + name(thread.index); }

void Worker::run_block(const Index3& block, const LaunchShape& shape, const std::function<void()>& kernel) {
  main_.adopt_os_thread();
  kernel_ = &kernel;
  error_.clear();
  here.worker = this;
  here.block = block;
  here.block_size = shape.block;
  here.grid_size = shape.grid;
  const unsigned n = shape.block.x * shape.block.y * shape.block.z;
  if (threads_.size() < n) threads_.resize(n);
  n_threads_ = n;
  for (unsigned t = 0; t < n; ++t) {
    threads_[t] = Thread{};
    threads_[t].index = {t % shape.block.x, t / shape.block.x % shape.block.y, t / shape.block.x / shape.block.y};
    threads_[t].linear = t;
  }
  ready_.clear();
  next_ = n_done_ = n_waiting_ = 0;
  shared.begin_block(shape.shared_bytes, n);
  Thread* first = pick();
  enter(*first);
  Fiber::change(main_, *first->fiber);
  if (!error_.empty()) {
    free_.clear();  // their stacks hold frames that nobody returns to
    for (auto& fiber : fibers_) {
      fiber->restart(fiber_main);
      free_.push_back(fiber.get());
    }
    throw GridFault("block " + name(block) + ", " + error_);
  }
}

// Runs threads on the fiber that calls, one after another, as long as no other thread can go on.
void Worker::run_threads() {
  for (;;) {
    (*kernel_)();
    current_->state = State::kDone;
    ++n_done_;
    release_barrier_if_complete();
    Fiber* mine = current_->fiber;
    if (!ready_.empty()) {
      free_.push_back(mine);
      Thread* next = pick();
      enter(*next);
      Fiber::change(*mine, *next->fiber);
    } else if (next_ < n_threads_) {
      Thread* next = &threads_[next_++];
      next->fiber = mine;
      enter(*next);
    } else {
      if (n_done_ != n_threads_) report_deadlock();
      free_.push_back(mine);
      Fiber::change(*mine, main_);
    }
  }
}

// The next thread to run: one that can go on, else one that has not begun, else null.
Thread* Worker::pick() {
  if (!ready_.empty()) {
    Thread* next = ready_.front();
    ready_.pop_front();
    return next;
  }
  if (next_ == n_threads_) return nullptr;
  Thread* next = &threads_[next_++];
  if (free_.empty()) {
    fibers_.push_back(std::make_unique<Fiber>(true));
    fibers_.back()->restart(fiber_main);
    free_.push_back(fibers_.back().get());
  }
  next->fiber = free_.back();
  free_.pop_back();
  return next;
}

void Worker::enter(Thread& thread) {
  current_ = &thread;
  here.thread = thread.index;
  here.linear = thread.linear;
}

// Lets others run until somebody has made the running thread ready again.
void Worker::wait() {
  Thread* me = current_;
  Thread* next = pick();
  if (next == nullptr) report_deadlock();
  enter(*next);
  Fiber::change(*me->fiber, *next->fiber);
}

void Worker::make_ready(Thread& thread) {
  thread.state = State::kRunning;
  ready_.push_back(&thread);
}

int Worker::barrier(bool predicate, Place place) {
  Thread& me = *current_;
  if (n_waiting_ > 0 && !same(place, barrier_place_)) {
    stop(describe(me) + " is at the barrier in " + name(place) + " while " + describe(threads_[first_waiting_]) +
         " waits at the one in " + name(barrier_place_));
  }
  if (n_waiting_ == 0) {
    barrier_place_ = place;
    first_waiting_ = me.linear;
    count_ = 0;
  }
  me.state = State::kBarrier;
  me.place = place;
  ++n_waiting_;
  count_ += predicate;
  if (n_waiting_ + n_done_ == n_threads_) {
    release_barrier_if_complete();
    ready_.pop_back();  // the last to come goes on at once
    me.state = State::kRunning;
    return last_count_;
  }
  wait();
  return last_count_;
}

void Worker::release_barrier_if_complete() {
  if (n_waiting_ == 0 || n_waiting_ + n_done_ != n_threads_) return;
  last_count_ = count_;
  n_waiting_ = 0;
  shared.barrier_passed();
  Thread* last = current_->state == State::kBarrier ? current_ : nullptr;
  for (unsigned t = 0; t < n_threads_; ++t) {
    if (threads_[t].state == State::kBarrier && &threads_[t] != last) make_ready(threads_[t]);
  }
  if (last != nullptr) make_ready(*last);
}

uint64_t Worker::meet(Collective kind, unsigned mask, uint64_t value, unsigned source, Place place, Work work) {
  Thread& me = *current_;
  const unsigned lane = me.linear % kWarp, first = me.linear - lane;
  const unsigned n_lanes = std::min(kWarp, n_threads_ - first);
  if ((mask >> lane & 1) == 0) stop(describe(me) + ": its lane is not in the mask it gave in " + name(place));
  if (n_lanes < kWarp && mask >> n_lanes != 0) {
    stop(describe(me) + ": the mask names lanes beyond the end of the block in " + name(place));
  }
  if (kind == Collective::kShuffle && (mask >> source & 1) == 0) {
    stop(describe(me) + " reads lane " + std::to_string(source) + ", which is not in its mask, in " + name(place));
  }
  me.state = State::kCollective;
  me.kind = kind;
  me.mask = mask;
  me.value = value;
  me.source = source;
  me.place = place;
  uint64_t votes = 0;
  for (unsigned k = 0; k < n_lanes; ++k) {
    if ((mask >> k & 1) == 0) continue;
    const Thread& other = threads_[first + k];
    if (other.state != State::kCollective || other.kind != kind || other.mask != mask) {
      wait();
      return me.result;
    }
    votes |= uint64_t{other.value != 0} << k;
  }
  if (kind == Collective::kWork) {
    std::array<void*, kWarp> things;
    for (unsigned k = 0; k < kWarp; ++k) {
      const Thread& other = threads_[first + k];
      if (!same(place, other.place)) {
        stop(describe(me) + " is at the product in " + name(place) + " while " + describe(other) +
             " waits at the one in " + name(other.place));
      }
      things[k] = reinterpret_cast<void*>(other.value);
    }
    work(things.data());
  }
  if (kind == Collective::kSync) shared.warp_synced(first / kWarp, mask);
  for (unsigned k = 0; k < n_lanes; ++k) {
    if ((mask >> k & 1) == 0) continue;
    Thread& other = threads_[first + k];
    other.result = kind == Collective::kShuffle ? threads_[first + other.source].value : votes;
    if (&other != &me) make_ready(other);
  }
  me.state = State::kRunning;
  return me.result;
}

void Worker::report_deadlock() {
  std::string text = "deadlock:";
  std::string last;
  int shown = 0;
  for (unsigned t = 0; t < n_threads_ && shown < 6; ++t) {
    const Thread& thread = threads_[t];
    const char* what = thread.state == State::kDone         ? " has returned"
                       : thread.state == State::kBarrier    ? " waits at the barrier in "
                       : thread.state == State::kCollective ? " waits for lanes of its mask in "
                                                            : " has not begun";
    const bool waits = thread.state == State::kBarrier || thread.state == State::kCollective;
    const std::string state = what + (waits ? name(thread.place) : std::string());
    if (state == last) continue;  // one of each run of equal states will do
    text += (shown++ ? "; " : " ") + describe(thread) + state;
    last = state;
  }
  stop(text);
}

void Worker::stop(const std::string& what) {
  error_ = what;
  Fiber& mine = *current_->fiber;
  Fiber::change(mine, main_);
  std::abort();  // nobody comes back
}

int barrier(bool predicate, Place place) { return here.worker->barrier(predicate, place); }

uint64_t meet(Collective kind, unsigned mask, uint64_t value, unsigned source, Place place) {
  return here.worker->meet(kind, mask, value, source, place);
}

void meet_to_work(void* mine, Work work, Place place) {
  here.worker->meet(Collective::kWork, ~0u, reinterpret_cast<uint64_t>(mine), 0, place, work);
}

void fault(const std::string& what) { here.worker->stop("thread " + name(here.thread) + ": " + what); }

namespace {

// Blocks in flight at once; more than one shows updates that blocks make at the same time.
unsigned n_workers() {
  const char* text = std::getenv("RECSYS_FAST_EMULATED_WORKERS");
  const int asked = text != nullptr ? std::atoi(text) : 0;
  return asked > 0 ? static_cast<unsigned>(asked) : std::clamp(std::thread::hardware_concurrency(), 1u, 4u);
}

}  // namespace

void run_grid(const LaunchShape& shape, const std::function<void()>& kernel) {
  static std::mutex one_launch;  // as on a stream
  static std::vector<std::unique_ptr<Worker>> workers;
  const std::lock_guard<std::mutex> lock(one_launch);
  const uint64_t n_blocks = uint64_t{shape.grid.x} * shape.grid.y * shape.grid.z;
  const unsigned n = static_cast<unsigned>(std::min<uint64_t>(n_workers(), n_blocks));
  while (workers.size() < n) workers.push_back(std::make_unique<Worker>());
  std::atomic<uint64_t> next{0};
  std::atomic<bool> failed{false};
  std::vector<std::string> errors(n);
  const auto work = [&](unsigned w) {
    for (uint64_t b = next++; b < n_blocks && !failed; b = next++) {
      const Index3 block = {static_cast<unsigned>(b % shape.grid.x),
                            static_cast<unsigned>(b / shape.grid.x % shape.grid.y),
                            static_cast<unsigned>(b / shape.grid.x / shape.grid.y)};
      try {
        workers[w]->run_block(block, shape, kernel);
      } catch (const GridFault& fault) {
        errors[w] = fault.what();
        failed = true;
      }
    }
  };
  std::vector<std::thread> others;
  for (unsigned w = 1; w < n; ++w) others.emplace_back(work, w);
  work(0);
  for (std::thread& other : others) other.join();
  for (const std::string& error : errors) {
    if (!error.empty()) throw GridFault(error);
  }
}

}  // namespace recsys_fast::emulated
