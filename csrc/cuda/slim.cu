// SLIM by a block of threads per item. Visits go in order, as on the CPU, but what they would do is looked at many
// places at a time: the first place that moves does, and those behind it are looked at again. A visit that changes
// nothing, which is most of a pass, thus costs its share of a round of two barriers. Which of the two forms runs, those
// of the CPU, the caller decides by giving x^T x or not:
//   x^T x  gradients of all items are kept, in shared memory up to 12,288 items; a thread looks at a place, and a step
//          reads a row of x^T x, which is what bounds it: L2, or memory where x^T x is larger
//   x      the residual is kept, in memory of the block's own; a warp looks at a place, which costs the item's entries
#include <algorithm>

#include "cuda/item_weights.h"
#include "cuda/product_rows.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = kProductThreads, kFewThreads = 64;
constexpr int64_t kFewItems = 512;                // for which few threads are enough
constexpr int64_t kSharedItems = 12288;           // 96 KB of gradients and weights: two blocks on sm_90
constexpr int64_t kRoomBytes = int64_t{1} << 30;  // of scratch, all blocks together
constexpr int kResident = 8;                      // blocks on a multiprocessor at most

struct SlimTask {
  ItemWeights out;
  Csr t, x;
  const float* gram;
  ElasticNet net;
  float tolerance;
  int64_t n_passes;
  const float* norms;
  const int32_t* negative;  // whether x holds a number below 0
  int32_t* taken;
  int32_t* unfinished;
};

using SlimRows = SparseRows<float, 2>;  // for four ahead sm_80 has too few registers

struct SlimMemory {
  SelectMemory select;
  Shared<float> steps;     // (kThreads)
  Shared<unsigned> masks;  // (32)
  Shared<int32_t> place;   // (1)
};
#define SLIM_MEMORY(name)            \
  RF_SELECT_MEMORY(select)           \
  RF_SHARED(float, steps, kThreads); \
  RF_SHARED(unsigned, masks, 32);    \
  RF_SHARED(int32_t, place, 1);      \
  const SlimMemory name{select, steps, masks, place};

// Gradients q_i = x_i . (x_j - x w) of all items j. Places are items.
template <class Floats>
struct SlimByGram {
  static constexpr bool kByWarp = false;
  const SlimTask& task;
  Floats gradients, weights;
  int64_t own;

  __device__ int64_t n() const { return task.t.n_rows; }
  __device__ int32_t item(int64_t p) const { return static_cast<int32_t>(p); }
  __device__ float weight(int64_t p) const { return weights[p]; }
  __device__ void start() const {
    for (int64_t p = threadIdx.x; p < n(); p += blockDim.x) {
      gradients[p] = task.gram[own * n() + p];
      weights[p] = 0.0f;
    }
  }
  // What a visit would add to the weight.
  __device__ float step(int64_t p) const {
    if (p == own) return 0.0f;
    const float before = weights[p], norm = task.norms[p], gradient = gradients[p];
    return task.net.weight(gradient + norm * before, norm) - before;
  }
  __device__ void move(int64_t p, float step) const {
    const float* row = task.gram + p * n();
#pragma unroll 4
    for (int64_t q = threadIdx.x; q < n(); q += blockDim.x) gradients[q] -= step * row[q];
    if (threadIdx.x == 0) weights[p] += step;
  }
  __device__ void finish() const {}
};

// The residual r = x_j - x w; 0 outside of a solve. With x >= 0 and w >= 0 gradients only fall, so places are the items
// that start above l1; else all but the item itself.
struct SlimByResidual {
  static constexpr bool kByWarp = true;
  const SlimTask& task;
  const SlimRows& rows;
  const Panel& panel;  // all columns
  float* residual;     // (n_users)
  float* weights;      // (n_items)
  float* gradients;    // (n_items) by item at first, then whether a place has moved
  int32_t* items;      // (n_items)
  int64_t own;
  int64_t n_places = 0;

  __device__ int64_t n() const { return n_places; }
  __device__ int32_t item(int64_t p) const { return items[p]; }
  __device__ float weight(int64_t p) const { return weights[p]; }

  __device__ void start(const SelectMemory& memory) {
    const bool screened = task.net.nonnegative && *task.negative == 0;
    if (screened) {
      rows.sum(gradients, own, panel, SameBlank{0.0f});
      __syncthreads();
    }
    const auto called = [&](int64_t i) -> uint64_t {
      return i != own && (!screened || task.net.calls(gradients[i])) ? 1 : 0;
    };
    const int64_t n_items = task.t.n_rows;
    n_places = keep_largest(n_items, n_items, memory, called,
                            [&](int64_t at, int64_t i) { items[at] = static_cast<int32_t>(i); });
    __syncthreads();
    for (int64_t p = threadIdx.x; p < n_places; p += blockDim.x) weights[p] = gradients[p] = 0.0f;
    add(own, -1.0f, threadIdx.x, blockDim.x);
  }
  __device__ float step(int64_t p) const {
    const int64_t i = items[p];
    float sum = 0.0f;
#pragma unroll 1
    for (int64_t e = task.t.row_ptr[i] + Warp::lane(); e < task.t.row_ptr[i + 1]; e += kWarpSize) {
      sum += value(e) * residual[task.t.col_idx[e]];
    }
    const float before = weights[p], norm = task.norms[i];
    return task.net.weight(Warp::sum(sum) + norm * before, norm) - before;
  }
  __device__ void move(int64_t p, float step) const {
    add(items[p], step, threadIdx.x, blockDim.x);
    if (threadIdx.x == 0) {
      weights[p] += step;
      gradients[p] = 1.0f;
    }
  }
  __device__ void finish() const {
    clear(own, threadIdx.x, blockDim.x);
    const unsigned warp = threadIdx.x / kWarpSize, n_warps = blockDim.x / kWarpSize;
    for (int64_t p = warp; p < n_places; p += n_warps) {
      if (gradients[p] != 0.0f) clear(items[p], threadIdx.x % kWarpSize, kWarpSize);
    }
  }

 private:
  __device__ float value(int64_t e) const { return task.t.values == nullptr ? 1.0f : task.t.values[e]; }
  // r -= change x_i, by `n` threads of which this is number `first`.
  __device__ void add(int64_t i, float change, unsigned first, unsigned n) const {
    for (int64_t e = task.t.row_ptr[i] + first; e < task.t.row_ptr[i + 1]; e += n) {
      residual[task.t.col_idx[e]] -= change * value(e);
    }
  }
  __device__ void clear(int64_t i, unsigned first, unsigned n) const {
    for (int64_t e = task.t.row_ptr[i] + first; e < task.t.row_ptr[i + 1]; e += n) residual[task.t.col_idx[e]] = 0.0f;
  }
};

// A pass over the n places of a list, or the first n where it is null; returns the largest change.
template <class Form>
__device__ float slim_pass(const Form& form, int64_t n, const int32_t* list, const SlimMemory& memory) {
  const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarpSize, n_threads = static_cast<int>(blockDim.x);
  const int n_warps = n_threads / kWarpSize;
  const auto place = [&](int64_t at) { return list == nullptr ? at : int64_t{list[at]}; };
  float largest = 0.0f;
  for (int64_t from = 0; from < n;) {
    const int64_t at = from + (Form::kByWarp ? warp : thread);
    const float own = at < n ? form.step(place(at)) : 0.0f;
    const bool moves = own != 0.0f && (!Form::kByWarp || Warp::lane() == 0);
    if (moves) memory.steps[thread] = own;
    const unsigned mask = __ballot_sync(kFullMask, moves);
    if (Warp::lane() == 0) memory.masks[warp] = mask;
    __syncthreads();
    int first = 0;
    unsigned found = memory.masks[0];
    while (found == 0 && ++first < n_warps) found = memory.masks[first];
    if (found == 0) {
      from += Form::kByWarp ? n_warps : n_threads;
    } else {
      const int mover = first * kWarpSize + __ffs(static_cast<int>(found)) - 1;
      const float step = memory.steps[mover];
      from += Form::kByWarp ? first : mover;
      form.move(place(from), step);
      largest = fmaxf(largest, fabsf(step));
      ++from;
    }
    __syncthreads();
  }
  return largest;
}

// Solves for one row of the result. active (n_items): scratch.
template <class Form>
__device__ void slim_solve_row(const Form& form, int64_t row, int32_t* active, const SlimTask& task,
                               const SlimMemory& memory) {
  int64_t passes = 0;
  bool converged = false;
  __syncthreads();  // the start is complete
  while (!converged && passes < task.n_passes) {
    ++passes;
    converged = slim_pass(form, form.n(), nullptr, memory) <= task.tolerance;
    if (converged) break;
    const int64_t n_active = keep_largest(
        form.n(), form.n(), memory.select, [&](int64_t p) { return uint64_t{form.weight(p) != 0.0f}; },
        [&](int64_t at, int64_t p) { active[at] = static_cast<int32_t>(p); });
    __syncthreads();
    for (bool settled = false; !settled && passes < task.n_passes; ++passes) {
      settled = slim_pass(form, n_active, active, memory) <= task.tolerance;
    }
  }
  if (threadIdx.x == 0 && !converged) atomicAdd(task.unfinished, 1);
  int32_t* ids = task.out.ids.row(row);
  float* values = task.out.values.row(row);
  const int64_t n_kept = keep_largest(
      form.n(), task.out.ids.d, memory.select,
      [&](int64_t p) {
        const float weight = form.weight(p);
        return weight == 0.0f ? 0 : rank_key(fabsf(weight), form.item(p));
      },
      [&](int64_t at, int64_t p) {
        ids[at] = form.item(p);
        values[at] = form.weight(p);
      });
  if (threadIdx.x == 0) task.out.counts[row] = static_cast<int32_t>(n_kept);
  form.finish();
}

// lists (n_blocks, n_items); room (n_blocks, 2 n_items), unless gradients and weights are in dynamic shared memory.
template <bool kInShared>
__global__ void __launch_bounds__(kThreads) slim_gram_kernel(SlimTask task, int32_t* lists, float* room) {
  SLIM_MEMORY(memory)
  RF_DYNAMIC_SHARED(float, shared);
  const int64_t n = task.t.n_rows;
  while (true) {
    const int64_t row = next_item(task.taken, task.out.ids.n, place);
    if (row < 0) return;
    int32_t* active = lists + blockIdx.x * n;
    const int64_t own = task.out.items[row];
    if constexpr (kInShared) {
      const SlimByGram<Shared<float>> form{task, shared, shared + n, own};
      form.start();
      slim_solve_row(form, row, active, task, memory);
    } else {
      float* gradients = room + 2 * n * blockIdx.x;
      const SlimByGram<float*> form{task, gradients, gradients + n, own};
      form.start();
      slim_solve_row(form, row, active, task, memory);
    }
  }
}

// lists (n_blocks, 2 n_items), room (n_blocks, 2 n_items); residuals (n_blocks, n_users), zeros.
__global__ void __launch_bounds__(kThreads)
    slim_residual_kernel(SlimTask task, SlimRows rows, Panel panel, int32_t* lists, float* room, float* residuals) {
  SLIM_MEMORY(memory)
  const int64_t n = task.t.n_rows, block = blockIdx.x;
  float *weights = room + 2 * n * block, *residual = residuals + task.x.n_rows * block;
  int32_t* items = lists + 2 * n * block;
  while (true) {
    const int64_t row = next_item(task.taken, task.out.ids.n, place);
    if (row < 0) return;
    SlimByResidual form{task, rows, panel, residual, weights, weights + n, items, task.out.items[row]};
    form.start(memory.select);
    slim_solve_row(form, row, items + n, task, memory);
  }
}

}  // namespace

template <>
int64_t slim_solve<Cuda>(const ItemWeights& out, const Csr& t, const Csr& x, const float* gram, double l1, double l2,
                         bool nonnegative, double tolerance, int64_t n_passes, int) {
  if (out.ids.n == 0) return 0;
  const Stream stream = current_stream();
  const int64_t n = t.n_rows;
  DeviceBuffer<float> norms(n, stream);
  DeviceBuffer<int32_t> counters(3, stream);
  fill_zero(counters.data(), 2, stream);
  int32_t *unfinished = counters.data() + 1, *negative = counters.data() + 2;
  squared_norms(norms.data(), negative, t, stream);
  const ElasticNet net{static_cast<float>(l1), static_cast<float>(l2), nonnegative};
  const SlimTask task{
      out,       t, x, gram, net, static_cast<float>(tolerance), n_passes, norms.data(), negative, counters.data(),
      unfinished};
  const bool in_shared = n <= kSharedItems;
  const int64_t floats = gram == nullptr ? 4 * n + x.n_rows : in_shared ? n : 3 * n;
  const int64_t most =
      std::min<int64_t>(n_multiprocessors() * kResident, kRoomBytes / (floats * int64_t{sizeof(float)}));
  const int64_t n_blocks = std::max<int64_t>(1, std::min(out.ids.n, most));
  const dim3 grid(static_cast<unsigned>(n_blocks));
  if (gram != nullptr) {
    DeviceBuffer<int32_t> lists(n_blocks * n, stream);
    DeviceBuffer<float> room(in_shared ? 0 : n_blocks * 2 * n, stream);
    const dim3 block(n <= kFewItems ? kFewThreads : kThreads);
    if (in_shared) {
      launch(slim_gram_kernel<true>, grid, block, static_cast<size_t>(2 * n) * sizeof(float), stream, task,
             lists.data(), room.data());
    } else {
      launch(slim_gram_kernel<false>, grid, block, 0, stream, task, lists.data(), room.data());
    }
  } else {
    DeviceBuffer<int64_t> splits(x.n_rows * (kProductWarps + 1), stream);
    DeviceBuffer<int32_t> lists(n_blocks * 2 * n, stream);
    DeviceBuffer<float> room(n_blocks * 2 * n, stream), residuals(n_blocks * x.n_rows, stream);
    fill_zero(residuals.data(), residuals.size(), stream);
    Panel panel = first_panel(n, n);
    panel.width = static_cast<int>(n);
    product_splits(splits.data(), x, panel, stream);
    launch(slim_residual_kernel, grid, dim3(kThreads), 0, stream, task, SlimRows{t, x, splits.data()}, panel,
           lists.data(), room.data(), residuals.data());
  }
  return read_element(unfinished, stream);
}

}  // namespace recsys_fast
