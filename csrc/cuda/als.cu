// ALS on the device. What a row with n entries costs, and what bounds it:
//   exact   n d^2 + d^3 / 3 operations (n^2 d + n^3 / 3 where n < d), 4 n d bytes gathered: arithmetic from d = 32 up
//   cg      4 n d operations a step, 4 n d bytes gathered once while they fit in shared memory, else each step: L2
// A block of threads takes a row at a time from a queue, longest first. Unknowns are padded to tiles of 32 (two warps)
// or 64 (eight); systems of more than one tile leave their factor in global scratch, so nothing depends on d fitting
// into shared memory. Deterministic: rows are independent, and their minima are added in row order.
#include "ops/als.h"

#include <algorithm>
#include <stdexcept>

#include "cuda/als_cg.h"
#include "cuda/als_exact.h"
#include "cuda/sum.h"

namespace recsys_fast {
namespace {

constexpr int kSmallTile = 32, kTile = 64;
constexpr int64_t kCgTileFloats = 10240;            // 40 KB of gathered rows: four blocks per multiprocessor
constexpr int64_t kCgShortFloats = 2560;            // 10 KB, for the many short rows: as many blocks as threads allow
constexpr int64_t kNarrow = 64;                     // of one tile: fetching a long row once beats fetching it per step
constexpr int64_t kFactorBytes = int64_t{2} << 30;  // of scratch for factors, all blocks together

// *out = what keeps D positive: a share of the largest entry of w0 spectrum (d).
__global__ void __launch_bounds__(256) als_floor_kernel(float* out, const float* spectrum, float w0, int64_t d) {
  RF_SHARED(float, scratch, 32);
  float largest = 0.0f;
  for (int64_t k = threadIdx.x; k < d; k += blockDim.x) largest = fmaxf(largest, w0 * spectrum[k]);
  largest = Block::maximum(largest, scratch);
  if (threadIdx.x == 0) *out = fmaxf(largest * 1e-6f, 1e-12f);
}

// penalty (n) = regularization (n_u + w0 n_cols)^nu. On its own, since pow is a call that costs a large kernel
// registers.
__global__ void __launch_bounds__(256) als_row_penalty_kernel(float* penalty, Csr matrix, AlsProblem problem) {
  const int64_t u = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (u >= matrix.n_rows) return;
  const double others = double{problem.unobserved_weight} * static_cast<double>(matrix.n_cols);
  const double size = static_cast<double>(matrix.row_size(u)) + others;
  penalty[u] = static_cast<float>(double{problem.regularization} * pow(size, double{problem.nu}));
}

// The scale of a row's features for D >= smallest.
__device__ void set_scale(const AlsRow& row, Shared<float> scale, float smallest) {
  __syncthreads();  // the scale before has been read
#pragma unroll 1
  for (int64_t k = threadIdx.x; k < row.d; k += blockDim.x) scale[k] = row.scale(k, smallest);
  __syncthreads();
}

// x and objective of the queue's rows that are mine(row). solve(row, constant): see als_exact.h. Where the
// factorization of a system that is singular in float32 fails, and from the start where `lend` says so, a small share
// of its mean diagonal is added.
template <class Mine, class Solve>
__device__ void solve_rows(const AlsTask& task, const AlsQueue& queue, Shared<float> scale, Shared<double> parts,
                           bool lend, const Mine& mine, const Solve& solve) {
  RF_SHARED(int32_t, place, 1);
  while (true) {
    const int64_t u = als_next_row(task.order, queue, place);
    if (u < 0) return;
    const AlsRow row(task, u);
    if (!mine(row)) continue;
    if (row.n == 0) {
#pragma unroll 1
      for (int64_t k = threadIdx.x; k < row.d; k += blockDim.x) task.x.row(u)[k] = 0.0f;
      if (threadIdx.x == 0) task.objective[u] = 0.0;
      continue;
    }
    const double constant = total_constant(row, parts);
    float smallest = *task.floor;
    if (lend && !row.penalised()) smallest = fmaxf(smallest, share_of_diagonal(row, parts));
    double objective = NAN;
    for (int attempt = 0; attempt < 2; ++attempt) {
      set_scale(row, scale, smallest);
      objective = solve(row, constant);
      if (is_finite(objective) || attempt == 1) break;
      const float share = share_of_diagonal(row, parts);
      if (!is_finite(share)) break;
      smallest = fmaxf(smallest, share);
    }
    if (threadIdx.x == 0) task.objective[u] = objective;
  }
}

#define ALS_SYSTEM_MEMORY(kTile)                                                   \
  RF_SHARED(float, panels, kTilePanels<kTile>);                                    \
  RF_SHARED(float, diagonal, kTile* kTileStride<kTile>);                           \
  RF_SHARED(float, inverse, kTile);                                                \
  RF_SHARED(int, broken, 1);                                                       \
  RF_SHARED(double, parts, 32);                                                    \
  RF_DYNAMIC_SHARED(float, vectors);                                               \
  const int64_t z_size = (size + kTile - 1) / kTile * kTile;                       \
  const AlsExactMemory memory{{panels, diagonal, inverse, vectors, broken, parts}, \
                              vectors + z_size,                                    \
                              factors + blockIdx.x * als_factor_floats<kTile>(size)};

// Exact rows, those with at least as many entries as features or the others; size: the most unknowns of a system. 16
// warps on a multiprocessor, so 128 registers a thread: 16 sums, 16 operands, and addresses of what travels ahead.
template <int kTile, bool kDual>
__global__ void __launch_bounds__(kTileThreads<kTile>, kTile == 64 ? 2 : 8)
    als_exact_kernel(AlsTask task, AlsQueue queue, float* factors, int64_t size) {
  ALS_SYSTEM_MEMORY(kTile)
  solve_rows(
      task, queue, memory.scale, parts, false,
      [&](const AlsRow& row) { return kDual ? row.n < row.d && row.n <= size : row.n >= row.d; },
      [&](const AlsRow& row, double constant) {
        return kDual ? als_dual<kTile>(row, memory, constant) : als_primal<kTile>(row, memory, constant);
      });
}

// iALS++ of rows with more than `block` entries (or features); the others are solved exactly for less than a pass
// costs. scores (nnz): scratch.
template <int kTile>
__global__ void __launch_bounds__(kTileThreads<kTile>, kTile == 64 ? 2 : 8)
    als_subspace_kernel(AlsTask task, AlsQueue queue, float* factors, int64_t size, float* scores, int n_steps,
                        int64_t block) {
  ALS_SYSTEM_MEMORY(kTile)
  const Shared<float> solution = memory.scale + task.y.d;
  solve_rows(
      task, queue, memory.scale, parts, false, [&](const AlsRow& row) { return row.n >= row.d || row.n > block; },
      [&](const AlsRow& row, double constant) {
        return als_subspace<kTile>(row, memory, solution, scores + row.begin, n_steps, block, constant);
      });
}
#undef ALS_SYSTEM_MEMORY

__global__ void __launch_bounds__(kAlsCgThreads, 6)
    als_cg_kernel(AlsTask task, AlsQueue queue, int64_t n_resident, int n_steps) {
  RF_SHARED(double, parts, 32);
  RF_DYNAMIC_SHARED(float, floats);
  const int64_t d = task.y.d;
  const Shared<float> scale = floats + 3 * d, q = scale + d, coefficient = q + als_cg_groups(d) * d;
  const AlsCgMemory memory{floats, floats + d, floats + 2 * d, scale, q, coefficient, coefficient + n_resident,
                           parts,  n_resident};
  // Without any penalty rounding errors of conjugate gradients pile up in the directions that no entry names.
  solve_rows(
      task, queue, scale, parts, true, [](const AlsRow&) { return true; },
      [&](const AlsRow& row, double constant) { return AlsCg(row, memory).solve(n_steps, constant); });
}

class Sweep {
 public:
  Sweep(const AlsTask& task, int32_t* taken, Stream stream) : task_(task), taken_(taken), stream_(stream) {}

  // Rows of slots [first, last) whose systems have at most `size` unknowns.
  template <int kTile, bool kDual>
  void exact(int first, int last, int64_t size) {
    const int64_t blocks = n_blocks(als_factor_floats<kTile>(size), kTile == 64 ? 2 : 8);
    DeviceBuffer<float> factors(blocks * als_factor_floats<kTile>(size), stream_);
    launch(als_exact_kernel<kTile, kDual>, dim3(static_cast<unsigned>(blocks)), dim3(kTileThreads<kTile>),
           vectors_bytes<kTile>(size, 1), stream_, task_, queue(first, last), factors.data(), size);
  }

  template <int kTile>
  void subspace(int n_steps, int64_t block) {
    DeviceBuffer<float> scores(read_element(task_.matrix.row_ptr + task_.matrix.n_rows, stream_), stream_);
    const int64_t blocks = n_blocks(als_factor_floats<kTile>(block), kTile == 64 ? 2 : 8);
    DeviceBuffer<float> factors(blocks * als_factor_floats<kTile>(block), stream_);
    launch(als_subspace_kernel<kTile>, dim3(static_cast<unsigned>(blocks)), dim3(kTileThreads<kTile>),
           vectors_bytes<kTile>(block, 2), stream_, task_, queue(0, kAlsSlots), factors.data(), block, scores.data(),
           n_steps, block);
  }

  void cg(int first, int last, int64_t tile_floats, int n_steps) {
    const int64_t d = task_.y.d, n_resident = std::max<int64_t>(4, tile_floats / d);
    const int64_t bytes = als_cg_floats(d, n_resident) * static_cast<int64_t>(sizeof(float));
    const int64_t blocks = n_blocks(0, std::clamp<int64_t>((int64_t{200} << 10) / bytes, 1, 16));
    launch(als_cg_kernel, dim3(static_cast<unsigned>(blocks)), dim3(kAlsCgThreads), static_cast<size_t>(bytes), stream_,
           task_, queue(first, last), n_resident, n_steps);
  }

 private:
  AlsQueue queue(int first, int last) { return {first, last, taken_++}; }

  template <int kTile>
  size_t vectors_bytes(int64_t size, int n_vectors) const {
    return static_cast<size_t>((size + kTile - 1) / kTile * kTile + n_vectors * task_.y.d) * sizeof(float);
  }

  // As many blocks as can be there at once, by threads and by scratch (floats each): rows come from a queue.
  int64_t n_blocks(int64_t floats, int64_t per_multiprocessor) const {
    int64_t blocks = std::min(task_.x.n, n_multiprocessors() * per_multiprocessor);
    if (floats > 0) blocks = std::min(blocks, kFactorBytes / (floats * static_cast<int64_t>(sizeof(float))));
    return std::max<int64_t>(1, blocks);
  }

  AlsTask task_;
  int32_t* taken_;
  Stream stream_;
};

}  // namespace

template <>
double als_sweep<Cuda>(Rows<float> x, Rows<const float> y, Csr matrix, const AlsProblem& problem, AlsSolver solver,
                       int n_steps, int block_size, int) {
  const int64_t n = x.n, d = y.d;
  if (n == 0) return 0.0;
  const Stream stream = current_stream();
  constexpr int kQueues = 4;
  DeviceBuffer<int32_t> rows(n, stream), counters(2 * kAlsSlots + kQueues, stream);
  DeviceBuffer<double> objective(n, stream);
  DeviceBuffer<float> floor(1, stream), penalty(n, stream);
  fill_zero(counters.data(), counters.size(), stream);
  int32_t *fill = counters.data() + kAlsSlots, *taken = fill + kAlsSlots;
  const AlsOrder order{rows.data(), counters.data()};
  als_sort_rows(order, fill, matrix, stream);
  launch(als_floor_kernel, dim3(1), dim3(256), 0, stream, floor.data(), problem.spectrum, problem.unobserved_weight, d);
  launch(als_row_penalty_kernel, dim3(blocks_for(n, 256)), dim3(256), 0, stream, penalty.data(), matrix, problem);
  const AlsTask task{x, y, matrix, problem, order, floor.data(), penalty.data(), objective.data()};
  Sweep sweep(task, taken, stream);
  const int64_t block = std::min<int64_t>(d, std::max(1, block_size));
  if (solver == AlsSolver::kCholesky || (solver == AlsSolver::kSubspace && block >= d)) {
    const int square = als_slot(d);  // of rows with as many entries as features, and some shorter or longer ones
    if (d <= kSmallTile) {
      sweep.exact<kSmallTile, false>(0, square + 1, d);
      sweep.exact<kSmallTile, true>(square, kAlsSlots, d);
    } else {
      sweep.exact<kTile, false>(0, square + 1, d);
      sweep.exact<kTile, true>(square, als_slot(kSmallTile), d);
      sweep.exact<kSmallTile, true>(als_slot(kSmallTile), kAlsSlots, kSmallTile);
    }
  } else if (solver == AlsSolver::kSubspace) {
    block <= kSmallTile ? sweep.exact<kSmallTile, true>(0, kAlsSlots, block)
                        : sweep.exact<kTile, true>(0, kAlsSlots, block);
    block <= kSmallTile ? sweep.subspace<kSmallTile>(n_steps, block) : sweep.subspace<kTile>(n_steps, block);
  } else {
    // By slots of length: exactly, in steps through shared memory, in steps that stay in a small part of it.
    const auto slot_above = [&](int64_t floats) { return als_slot(std::max<int64_t>(4, floats / d)); };
    int from = 0;
    if (d <= kNarrow) {
      from = slot_above(kCgTileFloats);
      d <= kSmallTile ? sweep.exact<kSmallTile, false>(0, from, d) : sweep.exact<kTile, false>(0, from, d);
    }
    const int small = std::min(kAlsSlots - 1, slot_above(kCgShortFloats) + 1);
    sweep.cg(from, small, kCgTileFloats, n_steps);
    sweep.cg(small, kAlsSlots, kCgShortFloats, n_steps);
  }
  return device_sum(objective.data(), n, stream);
}

}  // namespace recsys_fast
