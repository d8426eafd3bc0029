// The emulated grid: what CUDA promises holds, and each seeded fault is caught, with the places and threads named.
#include <cmath>
#include <string>
#include <vector>

#include "check.h"
#include "cuda/kernel.h"
#include "cuda/mma.h"
#include "cuda/reduce.h"

using namespace recsys_fast;
using emulated::GridFault;

namespace {

// Runs a launch that must fail; the message must hold `text`.
template <class Run>
void expect_fault(const std::string& text, Run&& run) {
  std::string got = "no fault";
  try {
    run();
  } catch (const GridFault& fault) {
    got = fault.what();
  }
  if (got.find(text) == std::string::npos) test::fail(__FILE__, __LINE__, "wanted '" + text + "', got '" + got + "'");
}

template <class Kernel, class... Arguments>
void run(Kernel kernel, int n_blocks, int n_threads, Arguments... arguments) {
  launch(kernel, dim3(static_cast<unsigned>(n_blocks)), dim3(static_cast<unsigned>(n_threads)), 0, current_stream(),
         arguments...);
}

__global__ void block_sum_kernel(float* out, const float* in, int n) {
  RF_SHARED(float, scratch, 32);
  float mine = 0.0f;
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) mine += in[i];
  const float total = Block::sum(mine, scratch);
  const float largest = Block::maximum(mine, scratch);
  if (threadIdx.x == 0) {
    out[2 * blockIdx.x] = total;
    out[2 * blockIdx.x + 1] = largest;
  }
}

RF_CASE(blocks_reduce) {
  DeviceBuffer<float> in(1000), out(6);
  for (int i = 0; i < 1000; ++i) in.data()[i] = 1.0f;
  for (const int threads : {32, 96, 256, 1024}) {
    run(block_sum_kernel, 3, threads, out.data(), in.data(), 1000);
    const float largest = static_cast<float>((1000 + threads - 1) / threads);
    for (int b = 0; b < 3; ++b) CHECK_AT(out.data()[2 * b] == 1000.0f && out.data()[2 * b + 1] == largest, threads);
  }
}

__global__ void lanes_kernel(int* out) {
  const int lane = Warp::lane();
  int* mine = out + 8 * static_cast<int>(threadIdx.x);
  mine[0] = __shfl_sync(kFullMask, lane, 5);
  mine[1] = __shfl_up_sync(kFullMask, lane, 3);
  mine[2] = __shfl_down_sync(kFullMask, lane, 3, 8);
  mine[3] = __shfl_xor_sync(kFullMask, lane, 16);
  mine[4] = static_cast<int>(__ballot_sync(kFullMask, lane % 2));
  mine[5] = Warp::scan(1);
  mine[6] = __any_sync(kFullMask, lane == 7) + 2 * __all_sync(kFullMask, lane < 31);
  // Two halves that part: each meets by itself.
  mine[7] = lane < 16 ? __shfl_sync(0x0000ffffu, lane, 15) : __shfl_sync(0xffff0000u, lane, 31);
}

RF_CASE(lanes_meet) {
  DeviceBuffer<int> out(8 * 64);
  run(lanes_kernel, 1, 64, out.data());
  for (int t = 0; t < 64; ++t) {
    const int lane = t % 32;
    const int* got = out.data() + 8 * t;
    CHECK_AT(got[0] == 5, t);
    CHECK_AT(got[1] == (lane < 3 ? lane : lane - 3), t);
    CHECK_AT(got[2] == (lane % 8 + 3 < 8 ? lane + 3 : lane), t);
    CHECK_AT(got[3] == (lane ^ 16), t);
    CHECK_AT(got[4] == static_cast<int>(0xaaaaaaaau), t);
    CHECK_AT(got[5] == lane + 1, t);
    CHECK_AT(got[6] == 1, t);
    CHECK_AT(got[7] == (lane < 16 ? 15 : 31), t);
  }
}

__global__ void histogram_kernel(int* out, float* sum) {
  RF_SHARED(int, counts, 4);
  if (threadIdx.x < 4) counts[threadIdx.x] = 0;
  __syncthreads();
  atomicAdd(&counts[threadIdx.x % 4], 1);
  __syncthreads();
  if (threadIdx.x < 4) atomicAdd(&out[threadIdx.x], static_cast<int>(counts[threadIdx.x]));
  atomicAdd(sum, 0.5f);
  atomicMax(&out[4], static_cast<int>(threadIdx.x));
  atomicCAS(&out[5], 0, 9);
}

RF_CASE(atomics_add_up) {
  DeviceBuffer<int> out(6);
  DeviceBuffer<float> sum(1);
  fill_zero(out.data(), 6);
  fill_zero(sum.data(), 1);
  run(histogram_kernel, 10, 64, out.data(), sum.data());
  for (int i = 0; i < 4; ++i) CHECK_AT(out.data()[i] == 160, i);
  CHECK(out.data()[4] == 63 && out.data()[5] == 9 && sum.data()[0] == 320.0f);
}

__global__ void dynamic_kernel(float* out) {
  RF_DYNAMIC_SHARED(float, all);
  const Shared<int> tail = (all + 64).as<int>();
  all[threadIdx.x] = static_cast<float>(threadIdx.x);
  tail[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncthreads();
  const float4 four = all.as<float4>()[threadIdx.x / 4];
  out[threadIdx.x] = four.w + static_cast<float>(static_cast<int>(tail[63 - threadIdx.x]));
}

RF_CASE(dynamic_shared_memory_is_cut_up) {
  DeviceBuffer<float> out(64);
  launch(dynamic_kernel, dim3(1), dim3(64), 128 * sizeof(float), current_stream(), out.data());
  for (int t = 0; t < 64; ++t) CHECK_AT(out.data()[t] == static_cast<float>(t / 4 * 4 + 3 + 63 - t), t);
}

// fault: 0 none, 1 no barrier before use, 2 none before the next write, 3 index beyond the end, 4 nothing written.
__global__ void neighbour_kernel(float* out, int fault) {
  RF_SHARED(float, line, 64);
  const int t = static_cast<int>(threadIdx.x);
  for (int round = 0; round < 2; ++round) {
    if (fault != 4) line[t + (fault == 3 ? 1 : 0)] = static_cast<float>(t);
    if (fault != 1) __syncthreads();
    out[t] = line[(t + 32) % 64];
    if (fault != 2) __syncthreads();
  }
}

RF_CASE(missing_barriers_and_bad_indices_in_shared_memory) {
  DeviceBuffer<float> out(64);
  run(neighbour_kernel, 2, 64, out.data(), 0);
  expect_fault("with no barrier between", [&] { run(neighbour_kernel, 1, 64, out.data(), 2); });
  expect_fault("line[64]: out of bounds", [&] { run(neighbour_kernel, 1, 64, out.data(), 3); });
  expect_fault("]: read before it is written", [&] { run(neighbour_kernel, 1, 64, out.data(), 4); });
  expect_fault("line[", [&] { run(neighbour_kernel, 1, 64, out.data(), 1); });
  run(neighbour_kernel, 2, 64, out.data(), 0);  // a fault leaves nothing behind
}

// A read of what another lane wrote: a shuffle between orders nothing, __syncwarp does.
__global__ void warp_kernel(int* out, int fault) {
  RF_SHARED(int, line, 32);
  const int t = static_cast<int>(threadIdx.x);
  line[t] = t;
  if (fault == 0) __syncwarp();
  if (fault == 1) __shfl_sync(kFullMask, t, 0);
  if (fault == 2) __syncwarp(t < 16 ? 0x0000ffffu : 0xffff0000u);
  out[t] = line[fault == 3 ? t : 31 - t];
}

RF_CASE(lanes_of_a_warp_race_too) {
  DeviceBuffer<int> out(32);
  run(warp_kernel, 1, 32, out.data(), 0);
  for (int t = 0; t < 32; ++t) CHECK_AT(out.data()[t] == 31 - t, t);
  run(warp_kernel, 1, 32, out.data(), 3);
  expect_fault("race: reads line[", [&] { run(warp_kernel, 1, 32, out.data(), 1); });
  expect_fault("line[16]: read before it is written", [&] { run(warp_kernel, 1, 32, out.data(), 2); });
}

__global__ void same_word_kernel(int fault) {
  RF_SHARED(int, flag, 1);
  if (fault == 0 ? threadIdx.x == 0 : threadIdx.x < 2) flag[0] = 1;
  __syncthreads();
  if (fault == 1) return;
  atomicAdd(&flag[0], 1);
  if (fault == 2 && threadIdx.x == 63) flag[0] = 5;
}

RF_CASE(two_writers_of_a_word) {
  run(same_word_kernel, 1, 64, 0);
  expect_fault("race: writes flag[0], which thread (0, 0, 0) writes", [] { run(same_word_kernel, 1, 64, 1); });
  expect_fault("race: writes flag[0]", [] { run(same_word_kernel, 1, 64, 2); });
}

__global__ void divergent_kernel(int fault) {
  if (fault == 1 && threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  if (fault == 2 && threadIdx.x < 16) __shfl_sync(kFullMask, 1, 0);
  if (fault == 3) __shfl_sync(0x1u, 1, 0);
  if (fault == 4 && threadIdx.x < 8) __shfl_sync(0xffu, 1, 9);
  if (fault == 5 && threadIdx.x < 16) __syncwarp();
  if (fault == 5) __syncthreads();
}

RF_CASE(divergent_barriers_and_collectives) {
  run(divergent_kernel, 1, 64, 0);
  expect_fault("is at the barrier in test_grid.cu", [] { run(divergent_kernel, 1, 64, 1); });
  expect_fault("waits for lanes of its mask in test_grid.cu", [] { run(divergent_kernel, 1, 32, 2); });
  expect_fault("thread (16, 0, 0) has returned", [] { run(divergent_kernel, 1, 32, 2); });
  expect_fault("its lane is not in the mask", [] { run(divergent_kernel, 1, 32, 3); });
  expect_fault("reads lane 9, which is not in its mask", [] { run(divergent_kernel, 1, 32, 4); });
  expect_fault("waits at the barrier", [] { run(divergent_kernel, 1, 32, 5); });
  expect_fault("beyond the end of the block", [] { run(divergent_kernel, 1, 20, 2); });
}

__global__ void early_return_kernel(int* out) {
  if (threadIdx.x >= 40) return;  // the barrier is for those who are left
  __syncthreads();
  out[threadIdx.x] = static_cast<int>(threadIdx.x);
}

RF_CASE(threads_that_return_do_not_hold_a_barrier) {
  DeviceBuffer<int> out(40);
  run(early_return_kernel, 2, 64, out.data());
  CHECK(out.data()[39] == 39);
}

__global__ void idle_kernel() {}
__global__ void greedy_kernel() {
  RF_SHARED(float, all, 13 * 1024);
  all[threadIdx.x] = 1.0f;
}

RF_CASE(launches_beyond_the_hardware) {
  CHECK_THROWS(run(idle_kernel, 1, 1025), DeviceFailure);
  CHECK_THROWS(run(idle_kernel, 0, 32), DeviceFailure);
  CHECK_THROWS(launch(idle_kernel, dim3(1), dim3(32), 164 << 10, current_stream()), DeviceFailure);
  expect_fault("48 KB is all", [] { run(greedy_kernel, 1, 32); });
}

RF_CASE(injected_failures) {
  emulated::allow_launches(1);
  run(idle_kernel, 1, 32);
  CHECK_THROWS(run(idle_kernel, 1, 32), DeviceFailure);
  emulated::allow_launches(-1);
  run(idle_kernel, 1, 32);
  emulated::set_memory_limit(1000);
  {
    DeviceBuffer<float> fits(200);
    CHECK_THROWS(DeviceBuffer<float>(100), DeviceOutOfMemory);
  }
  DeviceBuffer<float> again(250);
  emulated::set_memory_limit(uint64_t{1} << 34);
  CHECK(emulated::live_allocations() == 1);
}

__global__ void grids_kernel(int* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  __syncthreads();
  out[block * blockDim.x * blockDim.y * blockDim.z + thread] = static_cast<int>(thread);
}

RF_CASE(grids_and_blocks_of_three_dimensions) {
  DeviceBuffer<int> out(24 * 30);
  launch(grids_kernel, dim3(2, 3, 4), dim3(5, 3, 2), 0, current_stream(), out.data());
  for (int i = 0; i < 24 * 30; ++i) CHECK_AT(out.data()[i] == i % 30, i);
}

__global__ void count_kernel(int* out) {
  const int n = __syncthreads_count(threadIdx.x % 3 == 0);
  const int any = __syncthreads_or(threadIdx.x == 40), all = __syncthreads_and(threadIdx.x < 40);
  if (threadIdx.x == 7) out[0] = n + 100 * any + 1000 * all;
}

RF_CASE(barriers_count) {
  DeviceBuffer<int> out(1);
  run(count_kernel, 1, 64, out.data());
  CHECK(out.data()[0] == 22 + 100);
}

// Element (i, k) of the operands of a warp's product and element (i, j) of its sums, by the rules of the PTX manual for
// number n of a lane's fragment: "groupID" is lane / 4, "threadID_in_group" lane % 4.
struct Element {
  int row, col;
};
__device__ Element element_of_a(int lane, int n) {
  return {lane / 4 + (n < 2 || (n >= 4 && n < 6) ? 0 : 8), lane % 4 * 2 + (n & 1) + (n < 4 ? 0 : 8)};
}
__device__ Element element_of_b(int lane, int n) { return {lane % 4 * 2 + (n & 1) + (n < 2 ? 0 : 8), lane / 4}; }
__device__ Element element_of_sum(int lane, int n) { return {lane / 4 + (n < 2 ? 0 : 8), lane % 4 * 2 + (n & 1)}; }

// out (16, 8) += a (16, 16) b (16, 8). fault: 0 none, 1 half a warp, 2 two places, 3 another collective.
__global__ void product_kernel(float* out, const float* a, const float* b, int fault) {
  const int lane = Warp::lane();
  uint32_t left[4], right[2];
  float sum[4];
  for (int w = 0; w < 4; ++w) {
    const Element one = element_of_a(lane, 2 * w), two = element_of_a(lane, 2 * w + 1);
    left[w] = round_pair(a[one.row * 16 + one.col], a[two.row * 16 + two.col]);
  }
  for (int w = 0; w < 2; ++w) {
    const Element one = element_of_b(lane, 2 * w), two = element_of_b(lane, 2 * w + 1);
    right[w] = round_pair(b[one.row * 8 + one.col], b[two.row * 8 + two.col]);
  }
  for (int n = 0; n < 4; ++n) sum[n] = out[element_of_sum(lane, n).row * 8 + element_of_sum(lane, n).col];
  if (fault == 1 && lane >= 16) return;
  if (fault == 2 && lane == 9) {
    mma_bf16(sum, left, right);
  } else if (fault == 3 && lane == 9) {
    __syncwarp();
  } else {
    mma_bf16(sum, left, right);
  }
  for (int n = 0; n < 4; ++n) out[element_of_sum(lane, n).row * 8 + element_of_sum(lane, n).col] = sum[n];
}

RF_CASE(a_warp_multiplies) {
  const std::vector<float> numbers = test::uniform(16 * 16 + 16 * 8 + 16 * 8, 5);
  DeviceBuffer<float> a(16 * 16), b(16 * 8), out(16 * 8);
  copy_to_device(a.data(), numbers.data(), 16 * 16);
  copy_to_device(b.data(), numbers.data() + 16 * 16, 16 * 8);
  copy_to_device(out.data(), numbers.data() + 16 * 24, 16 * 8);
  run(product_kernel, 1, 32, out.data(), a.data(), b.data(), 0);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 8; ++j) {
      double exact = numbers[static_cast<size_t>(16 * 24 + i * 8 + j)];
      for (int k = 0; k < 16; ++k) {
        exact +=
            static_cast<double>(from_bf16(to_bf16(a.data()[i * 16 + k]))) * from_bf16(to_bf16(b.data()[k * 8 + j]));
      }
      CHECK_AT(std::abs(out.data()[i * 8 + j] - exact) < 1e-6, i * 8 + j);
    }
  }
  const auto fails = [&](const char* text, int n_threads, int fault) {
    expect_fault(text, [&] { run(product_kernel, 1, n_threads, out.data(), a.data(), b.data(), fault); });
  };
  fails("thread (16, 0, 0) has returned", 32, 1);
  fails("is at the product in test_grid.cu", 32, 2);
  fails("waits for lanes of its mask in test_grid.cu", 32, 3);
  fails("beyond the end of the block", 20, 0);
}

RF_CASE(floats_become_bfloat16) {
  const float tie = 1.0f + 0x1p-8f, next = 1.0f + 0x1p-7f,
              least = 0x1p-133f;  // ties are between an even and an odd one
  CHECK(from_bf16(to_bf16(tie)) == 1.0f && from_bf16(to_bf16(next + 0x1p-8f)) == 1.0f + 0x1p-6f);
  CHECK(from_bf16(to_bf16(tie + 0x1p-20f)) == next && from_bf16(to_bf16(-tie)) == -1.0f);
  CHECK(from_bf16(to_bf16(0x1.fffffep127f)) == INFINITY && from_bf16(to_bf16(least)) == least);
  CHECK(std::isnan(from_bf16(to_bf16(NAN))) && from_bf16(to_bf16(-INFINITY)) == -INFINITY);
  CHECK(bf16_pair(1.0f, -2.0f) == 0xc0003f80u && from_bf16(0xc0003f80u) == 1.0f);
}

// Only for the address sanitizer, which ends the process.
__global__ void overrun_kernel(float* out, int at, bool store, bool shared) {
  RF_SHARED(float, few, 8);
  few[threadIdx.x % 8] = 0.0f;  // one thread runs
  if (shared) few.data()[8] = 1.0f;
  if (store) {
    out[at] = 1.0f;
  } else {
    few[0] = out[at];
  }
}

void plant(const std::string& fault) {
  DeviceBuffer<float> out(10), gone(10);
  float* freed = gone.data();
  gone = DeviceBuffer<float>();
  if (fault == "store") run(overrun_kernel, 1, 1, out.data(), 10, true, false);
  if (fault == "load") run(overrun_kernel, 1, 1, out.data(), -1, false, false);
  if (fault == "freed") run(overrun_kernel, 1, 1, freed, 0, true, false);
  if (fault == "shared") run(overrun_kernel, 1, 1, out.data(), 0, true, true);
}

}  // namespace

int main(int n, char** arguments) {
  if (n > 1) plant(arguments[1]);
  return test::run_all();
}
