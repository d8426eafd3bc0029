#include "core/thread_pool.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "core/errors.h"
#include "core/poller.h"

namespace recsys_fast {
namespace {

using Clock = std::chrono::steady_clock;

// How long a thread looks for work before it sleeps, and a caller for the end of its loop. Waking a thread takes tens
// of microseconds, as long as a small operation of a training step; between two of those there is less than this. The
// thread yields meanwhile, so that a neighbour who needs the core gets it.
constexpr auto kLookOut = std::chrono::microseconds(100);

// Waits for the condition for as long as that; returns whether it came true.
template <class Condition>
bool look_out(Condition&& condition) {
  const auto end = Clock::now() + kLookOut;
  while (!condition()) {
    if (Clock::now() >= end) return false;
    std::this_thread::yield();
  }
  return true;
}

std::atomic<PollInterrupt> g_poll{nullptr};

bool asked_to_stop(Poller& poller) { return poller.due_and_stop(g_poll.load(std::memory_order_relaxed)); }

struct Job {
  ChunkFunction function;
  void* context;
  int64_t n, grain, n_chunks;
  int max_workers;
  int n_workers = 1;             // the caller is worker 0; guarded by the pool's mutex
  std::atomic<int> n_active{0};  // pool threads inside; changed under the pool's mutex
  std::atomic<int64_t> next{0};
  std::atomic<bool> stop{false};
  std::mutex error_mutex{};
  std::exception_ptr error{};

  bool has_work() const { return !stop.load(std::memory_order_relaxed) && next.load() < n_chunks; }

  void fail(std::exception_ptr e) {
    std::lock_guard lock(error_mutex);
    if (!error) error = std::move(e);
    stop.store(true);
  }
};

// The innermost loop that the calling thread takes part in; the poller only where the thread started it.
struct Part {
  Job* job = nullptr;
  Poller* poller = nullptr;
};
thread_local Part t_part;

class Participation {
 public:
  Participation(Job& job, Poller* poller) : outer_(std::exchange(t_part, {&job, poller})) {}
  ~Participation() { t_part = outer_; }

 private:
  Part outer_;
};

void run_chunks(Job& job, int worker, Poller* poller) {
  const Participation participation(job, poller);
  while (!job.stop.load(std::memory_order_relaxed)) {
    const int64_t chunk = job.next.fetch_add(1);
    if (chunk >= job.n_chunks) return;
    try {
      const int64_t begin = chunk * job.grain;
      job.function(job.context, begin, std::min(job.n, begin + job.grain), worker);
      if (poller != nullptr && asked_to_stop(*poller)) throw Interrupted();
    } catch (...) {
      job.fail(std::current_exception());
    }
  }
}

class Pool {
 public:
  void run(Job& job) {
    bool asleep = false;
    {
      std::lock_guard lock(mutex_);
      while (static_cast<int>(threads_.size()) < job.max_workers - 1) threads_.emplace_back([this] { work(); });
      jobs_.push_back(&job);
      n_posted_.fetch_add(1);
      asleep = n_looking_ < job.max_workers - 1;
    }
    if (asleep) wake_.notify_all();
    Poller poller;
    run_chunks(job, 0, &poller);
    {
      std::lock_guard lock(mutex_);
      jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
    }
    if (look_out([&] { return job.n_active.load() == 0; })) return;
    std::unique_lock lock(mutex_);
    while (job.n_active > 0) {
      if (done_.wait_for(lock, kPollEvery, [&] { return job.n_active == 0; })) break;
      lock.unlock();  // the poll takes the GIL
      if (!job.stop.load() && asked_to_stop(poller)) job.fail(std::make_exception_ptr(Interrupted()));
      lock.lock();
    }
  }

 private:
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      Job* job = pick();
      if (job == nullptr) {
        const int64_t seen = n_posted_.load();
        ++n_looking_;
        lock.unlock();
        look_out([&] { return n_posted_.load() != seen; });
        lock.lock();
        --n_looking_;
        wake_.wait(lock, [&] {
          job = pick();
          return job != nullptr;
        });
      }
      const int worker = job->n_workers++;
      ++job->n_active;
      if (pick() != nullptr) wake_.notify_one();  // a thread that looked out may have been counted for two loops
      lock.unlock();
      run_chunks(*job, worker, nullptr);
      lock.lock();
      if (--job->n_active == 0) done_.notify_all();
    }
  }

  Job* pick() const {
    for (Job* job : jobs_) {
      if (job->n_workers < job->max_workers && job->has_work()) return job;
    }
    return nullptr;
  }

  std::mutex mutex_;
  std::atomic<int64_t> n_posted_{0};  // loops so far; changed under the mutex
  int n_looking_ = 0;                 // threads that look out for the next; guarded by the mutex
  std::condition_variable wake_, done_;
  std::vector<Job*> jobs_;
  std::vector<std::thread> threads_;
};

std::atomic<Pool*> g_pool{nullptr};

// Threads do not survive fork: the child forgets the parent's pool (and leaks it) and makes its own when it needs one.
void forget_pool() { g_pool.store(nullptr); }

// The pool is never destroyed: its threads may not be joined from a static destructor of a shared library.
Pool& pool() {
  static const int registered = pthread_atfork(nullptr, nullptr, forget_pool);
  (void)registered;
  Pool* current = g_pool.load();
  if (current == nullptr) {
    auto* fresh = new Pool;
    if (g_pool.compare_exchange_strong(current, fresh)) return *fresh;
    delete fresh;
  }
  return *current;
}

}  // namespace

void set_poll_interrupt(PollInterrupt poll) { g_poll.store(poll); }

void check_interrupt() {
  const auto [job, poller] = t_part;
  if (job == nullptr) return;
  if (job->stop.load(std::memory_order_relaxed) || (poller != nullptr && asked_to_stop(*poller))) throw Interrupted();
}

void run_parallel(int64_t n, int64_t grain, int n_threads, ChunkFunction function, void* context) {
  if (n <= 0) return;
  grain = std::max<int64_t>(1, grain);
  Job job{.function = function,
          .context = context,
          .n = n,
          .grain = grain,
          .n_chunks = (n - 1) / grain + 1,
          .max_workers = 1};
  job.max_workers = static_cast<int>(std::clamp<int64_t>(n_threads, 1, job.n_chunks));
  if (job.max_workers == 1) {
    Poller poller;
    run_chunks(job, 0, &poller);
  } else {
    pool().run(job);
  }
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace recsys_fast
