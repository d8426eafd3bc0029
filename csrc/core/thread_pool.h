// One pool of std::threads for the whole process. No OpenMP: it hangs after fork and clashes with other runtimes.
#pragma once

#include <cstdint>
#include <type_traits>

namespace recsys_fast {

// Called now and then by the thread that started a loop; returns true to stop it. Installed once by the bindings.
using PollInterrupt = bool (*)();
void set_poll_interrupt(PollInterrupt poll);

using ChunkFunction = void (*)(void* context, int64_t begin, int64_t end, int worker);
void run_parallel(int64_t n, int64_t grain, int n_threads, ChunkFunction function, void* context);

// Calls body(begin, end, worker) for chunks of `grain` indices of [0, n), handed out in order to whoever is free.
// 0 <= worker < n_threads is unique among the threads inside one loop. The caller takes part, so a loop may start
// another, and loops of several callers share the pool. An exception of any chunk reaches the caller; throws
// Interrupted when the poll says stop. A result that must not depend on n_threads may depend on chunks, not workers.
template <class Body>
void parallel_for(int64_t n, int64_t grain, int n_threads, Body&& body) {
  using Plain = std::remove_reference_t<Body>;
  run_parallel(
      n, grain, n_threads,
      [](void* context, int64_t begin, int64_t end, int worker) {
        (*static_cast<Plain*>(context))(begin, end, worker);
      },
      const_cast<void*>(static_cast<const void*>(&body)));
}

// For the body of a loop whose chunks take long: throws Interrupted where the loop is to stop. Nothing outside a loop.
void check_interrupt();

}  // namespace recsys_fast
