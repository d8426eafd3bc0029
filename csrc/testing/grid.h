// The emulated grid: runs CUDA kernels on the CPU, so that every kernel is executed, and watched, without a GPU.
//
// A block runs on one OS worker, each of its threads on a fiber. A thread runs until it waits: at __syncthreads for all
// threads of the block that have not returned, in a warp collective for the lanes of its mask. A thread that never
// waits hands its fiber to the next one. Watched, and reported as a GridFault with the threads and places:
//   - a barrier that threads reach in different places, or that some never reach;
//   - a collective whose lanes do not all come, whose mask lacks the caller, or that reads a lane outside its mask;
//   - shared memory: out of bounds, read before written, two threads without a barrier between them (testing/shared.h);
//   - launches beyond the limits of the hardware.
// Device memory is malloc's: the address sanitizer sees its ends. Not seen: races on device memory, coalescing, bank
// conflicts, speed. No fused multiply-add, and the host's libm: tolerances, not equality.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>
#include <stdexcept>
#include <string>

namespace recsys_fast::emulated {

// A kernel did what the hardware would not forgive, or would forgive only by luck.
struct GridFault : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Index3 {
  unsigned x, y, z;
};

// What the running CUDA thread knows about itself; the emulator's own fields follow.
struct Here {
  Index3 thread, block, block_size, grid_size;
  unsigned linear;  // thread.x + block_size.x * (thread.y + block_size.y * thread.z)
  class Worker* worker;
};
extern __thread Here here __attribute__((tls_model("initial-exec")));

struct LaunchShape {
  Index3 grid, block;
  size_t shared_bytes;
};

// Runs `kernel` once per thread of the grid; returns when all have. Throws GridFault.
void run_grid(const LaunchShape& shape, const std::function<void()>& kernel);

using Place = std::source_location;

// __syncthreads; returns how many threads gave a true predicate.
int barrier(bool predicate, Place place);

enum class Collective : int { kShuffle, kVote, kSync, kWork };

// All lanes of `mask` meet; returns the `value` of lane `source` (kShuffle) or the mask of lanes with value != 0.
uint64_t meet(Collective kind, unsigned mask, uint64_t value, unsigned source, Place place);

// All 32 lanes of a warp meet in one place of the program, each with something of its own; the last one to come does
// the work, on all of it in the order of the lanes.
using Work = void (*)(void* const* lanes);
void meet_to_work(void* mine, Work work, Place place);

// Stops the launch with a GridFault; the message gets the thread's name in front.
[[noreturn]] void fault(const std::string& what);

// Tests only. Launches that are still allowed; the next one fails. Negative: no end. `for_good`: and so does everything
// after it, as on a device whose context is gone, until the next call.
void allow_launches(int64_t n, bool for_good = false);
bool take_launch();
bool lost();

// Tests only. The n-th launch from now finds SIGINT raised, as by a user's Ctrl-C while it runs.
void interrupt_at_launch(int64_t n);

// What hosts have done with devices so far: launches, waits for the device, allocations.
struct Counts {
  std::atomic<int64_t> launches{0}, waits{0}, allocations{0};
};
Counts& counts();

// Tests only. Bytes that device_allocate may hand out together.
void set_memory_limit(uint64_t bytes);
void* allocate(size_t bytes, int device);  // NaN-filled; nullptr beyond the limit
int device_of(const void* data);           // -1: no device memory
void release(void* memory) noexcept;
uint64_t free_bytes();
uint64_t take_peak();  // most bytes at a time since the last call
int64_t live_allocations();

// What the device questions of cuda/device.h get for an answer.
struct Pretend {
  int driver = 13000, n_devices = 2, device = 0;
};
Pretend& pretend();

}  // namespace recsys_fast::emulated
