// The thread pool: every index once, exceptions, nesting, several callers, interruption, life after fork.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include "check.h"
#include "core/errors.h"
#include "core/thread_pool.h"

namespace recsys_fast {
namespace {

using std::chrono::milliseconds;

struct Boom : std::runtime_error {
  Boom() : std::runtime_error("boom") {}
};

// Sum of 0..n-1 over a loop, which is wrong as soon as an index is left out or done twice.
int64_t sum_of_indices(int64_t n, int64_t grain, int n_threads) {
  std::atomic<int64_t> sum{0};
  parallel_for(n, grain, n_threads, [&](int64_t begin, int64_t end, int) {
    int64_t part = 0;
    for (int64_t i = begin; i < end; ++i) part += i;
    sum += part;
  });
  return sum;
}

int64_t triangle(int64_t n) { return n * (n - 1) / 2; }

RF_CASE(pool_visits_every_index_once) {
  for (const int64_t n : {0, 1, 2, 7, 64, 1000}) {
    for (const int64_t grain : {-3, 0, 1, 3, 64, 5000}) {
      for (const int n_threads : {0, 1, 2, 5, 16}) {
        std::vector<std::atomic<int>> visits(static_cast<size_t>(n));
        parallel_for(n, grain, n_threads, [&](int64_t begin, int64_t end, int) {
          for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
        });
        for (const auto& v : visits) CHECK_AT(v.load() == 1, n);
      }
    }
  }
}

RF_CASE(pool_cuts_chunks_by_grain) {
  std::atomic<int> wrong{0};
  parallel_for(1003, 10, 4, [&](int64_t begin, int64_t end, int) {
    if (begin % 10 != 0 || (end - begin != 10 && end != 1003)) ++wrong;
  });
  CHECK(wrong.load() == 0);
}

RF_CASE(pool_worker_numbers_are_unique_while_inside) {
  constexpr int kThreads = 6;
  std::atomic<bool> busy[kThreads] = {};
  std::atomic<int> wrong{0};
  for (int round = 0; round < 20; ++round) {
    parallel_for(200, 1, kThreads, [&](int64_t, int64_t, int worker) {
      if (worker < 0 || worker >= kThreads) {
        ++wrong;
        return;
      }
      if (busy[worker].exchange(true)) ++wrong;
      std::this_thread::yield();
      busy[worker] = false;
    });
  }
  CHECK(wrong.load() == 0);
}

RF_CASE(pool_workers_write_without_locks) {
  // The end of the loop orders all writes before the caller's reads; the thread sanitizer looks for a gap.
  std::vector<int64_t> out(50000);
  for (int round = 0; round < 20; ++round) {
    parallel_for(static_cast<int64_t>(out.size()), 100, 4, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) out[static_cast<size_t>(i)] += i;
    });
  }
  for (size_t i = 0; i < out.size(); ++i) CHECK_AT(out[i] == 20 * static_cast<int64_t>(i), i);
}

RF_CASE(pool_exception_reaches_the_caller) {
  for (const int n_threads : {1, 2, 8}) {
    for (const int64_t bad : {0, 57, 99}) {
      const auto body = [&](int64_t begin, int64_t, int) {
        if (begin == bad) throw Boom();
      };
      CHECK_THROWS(parallel_for(100, 1, n_threads, body), Boom);
      CHECK_AT(sum_of_indices(100, 1, n_threads) == triangle(100), n_threads);  // still of use
    }
  }
}

RF_CASE(pool_exception_stops_the_loop) {
  std::atomic<int64_t> n_done{0};
  const auto body = [&](int64_t, int64_t, int) {
    ++n_done;
    throw Boom();
  };
  CHECK_THROWS(parallel_for(100000, 1, 4, body), Boom);
  CHECK(n_done.load() <= 4);
}

RF_CASE(pool_loops_nest) {
  std::atomic<int64_t> sum{0};
  parallel_for(6, 1, 4, [&](int64_t, int64_t, int) {
    parallel_for(5, 1, 3, [&](int64_t, int64_t, int) { sum += sum_of_indices(40, 3, 4); });
  });
  CHECK(sum.load() == 30 * triangle(40));
}

RF_CASE(pool_exception_crosses_nested_loops) {
  const auto body = [&](int64_t, int64_t, int) {
    parallel_for(4, 1, 2, [&](int64_t begin, int64_t, int) {
      if (begin == 3) throw Boom();
    });
  };
  CHECK_THROWS(parallel_for(4, 1, 2, body), Boom);
}

RF_CASE(pool_serves_several_callers) {
  std::atomic<int> wrong{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 8; ++caller) {
    callers.emplace_back([&, caller] {
      for (int round = 0; round < 30; ++round) {
        const int64_t n = 100 + 13 * caller + round;
        if (sum_of_indices(n, 1 + round % 7, 1 + (caller + round) % 5) != triangle(n)) ++wrong;
        try {
          parallel_for(n, 1, 3, [&](int64_t begin, int64_t, int) {
            if (begin == n / 2) throw Boom();
          });
          ++wrong;
        } catch (const Boom&) {
        }
      }
    });
  }
  for (auto& thread : callers) thread.join();
  CHECK(wrong.load() == 0);
}

std::atomic<int> g_polls{0};

// Installs a poll for the life of the object.
struct Poll {
  explicit Poll(PollInterrupt poll) {
    g_polls = 0;
    set_poll_interrupt(poll);
  }
  ~Poll() { set_poll_interrupt(nullptr); }
};

RF_CASE(pool_stops_when_the_poll_says_so) {
  for (const int n_threads : {1, 3}) {
    const Poll poll([] { return ++g_polls >= 2; });
    std::atomic<int64_t> n_done{0};
    const auto body = [&](int64_t, int64_t, int) {
      ++n_done;
      std::this_thread::sleep_for(milliseconds(2));
    };
    CHECK_THROWS(parallel_for(1000000, 1, n_threads, body), Interrupted);
    CHECK_AT(n_done.load() < 10000, n_threads);
  }
  CHECK(sum_of_indices(1000, 10, 3) == triangle(1000));
}

RF_CASE(pool_stops_long_chunks_that_ask) {
  check_interrupt();  // of no effect outside a loop
  for (const int n_threads : {1, 3}) {
    const Poll poll([] { return ++g_polls >= 2; });
    std::atomic<int> n_ended{0};
    const auto body = [&](int64_t, int64_t, int) {
      for (int step = 0; step < 5000; ++step) {
        std::this_thread::sleep_for(milliseconds(2));
        parallel_for(1, 1, 1, [](int64_t, int64_t, int) { check_interrupt(); });  // and still knows this one after it
        check_interrupt();
      }
      ++n_ended;
    };
    CHECK_THROWS(parallel_for(3, 1, n_threads, body), Interrupted);
    CHECK_AT(n_ended.load() == 0, n_threads);
  }
}

RF_CASE(pool_polls_while_it_waits_for_workers) {
  const Poll poll([] {
    ++g_polls;
    return false;
  });
  const auto caller = std::this_thread::get_id();
  std::atomic<bool> worker_came{false};
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  // The caller gives its chunks away until a worker has one; then only the wait at the end is left to poll.
  parallel_for(2, 1, 2, [&](int64_t, int64_t, int) {
    if (std::this_thread::get_id() != caller) {
      worker_came = true;
      std::this_thread::sleep_for(milliseconds(200));
    }
    while (!worker_came && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(milliseconds(1));
  });
  CHECK(worker_came.load());
  CHECK(g_polls.load() >= 1);
}

#ifndef __SANITIZE_THREAD__  // the thread sanitizer has no threads after a fork
// Forks, runs a loop in the child, and returns the child's exit status, killed when it hangs.
int status_of_forked_loop() {
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    _exit(sum_of_indices(1000, 1, 4) == triangle(1000) ? 0 : 1);
  }
  int status = -1;
  waitpid(child, &status, 0);
  return status;
}

RF_CASE(pool_lives_after_fork) {
  for (int round = 0; round < 5; ++round) {
    CHECK(sum_of_indices(1000, 1, 4) == triangle(1000));
    CHECK_AT(status_of_forked_loop() == 0, round);
    CHECK(sum_of_indices(1000, 1, 4) == triangle(1000));
  }
}

RF_CASE(pool_lives_after_fork_amid_loops) {
  std::atomic<bool> stop{false};
  std::thread other([&] {
    while (!stop) sum_of_indices(500, 1, 3);
  });
  int n_failed = 0;
  for (int round = 0; round < 10; ++round) n_failed += status_of_forked_loop() != 0;
  stop = true;
  other.join();
  CHECK(n_failed == 0);
}
#endif

}  // namespace
}  // namespace recsys_fast
