// One engine for all SGD epochs on the device. A warp trains a sample; which samples run at the same time is one of
//   in levels (deterministic): a block of warps takes a cell of the round and walks the levels of its visits, see
//     sgd_stage.h, with a barrier between them; cells of a round share nothing. The samples of cpu and numba, in an
//     order that cannot be told from theirs.
//   by users (not deterministic, or items frozen): a warp takes a user, all visits in order. The user's row is its
//     own; items are raced on (sgd_rows.h), or frozen, and then the result is again the sequential one.
//
// What bounds it. A sample of d floats and two items moves 6 rows: 1.5 KB for d = 64, most of it from L2, which both
// tables of a usual catalogue fit. By users, thousands of warps are in flight and that traffic is the floor. In levels
// the floor is the chain: a level costs a barrier and the latency of a sample, and there are at least as many levels as
// a cell's most popular item has visits. Only n_blocks <= 16 multiprocessors work at a time, because the number of
// blocks is part of which negatives are drawn.
//
// A loss is a type with
//   kItems                            items of a sample that its train holds, for the choice of registers
//   kRowsPerBlock                     the smallest blocks of the schedule
//   kScratch                          whether it needs coefficients and steps of the stage
//   n_drawn                           negatives drawn for a visit
//   per_visit(problem)                what a trained visit counts
//   train<kOptimizer, K, kRacy>(problem, user, value, items, scratch...)   one sample, by a whole warp; returns its
//   loss
#pragma once

#include <algorithm>
#include <stdexcept>

#include "cuda/counting_sort.h"
#include "cuda/sgd_rows.h"
#include "cuda/sgd_stage.h"

namespace recsys_fast {

// 4 warps: a block ends with its slowest user, so blocks are small.
constexpr int kUserWarps = 4;

// kLevelWarps: on real data a level has some ten to fifty samples, and it waits for its slowest warp: 16. The emulated
// grid pays for every idle thread at a barrier.
// kStageBytes: memory of a stage. Small where the cases are, so that they have many stages.
#ifdef RECSYS_FAST_EMULATED_GRID
constexpr int kLevelWarps = 4;
constexpr int64_t kStageBytes = int64_t{12} << 10;
#else
constexpr int kLevelWarps = 16;
constexpr int64_t kStageBytes = int64_t{2} << 30;
#endif

// Block b trains piece first + b.
template <class Loss, SgdOptimizer kOptimizer, int K>
__global__ void __launch_bounds__(kLevelWarps* kWarpSize, 1)
    train_levels_kernel(SgdStageView s, int64_t first, Loss loss, SgdProblem problem) {
  const int64_t local = s.pieces[first + blockIdx.x].local;
  const int32_t n_levels = s.n_levels[first + blockIdx.x];
  int32_t begin = 0;
  for (int32_t level = 0; level < n_levels; ++level) {
    const int32_t end = s.level_end[local + level];
    for (int64_t at = local + begin + threadIdx.x / kWarpSize; at < local + end; at += kLevelWarps) {
      const int32_t* items = s.sample_items + at * s.m;
      if (items[0] < 0) continue;
      const SgdSample sample = s.samples[at];
      const float x = loss.template train<kOptimizer, K, false>(
          problem, sample.user, sample.value, items, s.coefficients + sample.visit * s.m, s.steps + sample.visit * s.m);
      if (Warp::lane() == 0) s.losses[sample.visit] = x;
    }
    begin = end;
    __syncthreads();
  }
}

// Warp w trains the visits of the w-th user of `users` that are in the stage's only piece.
template <class Loss, SgdOptimizer kOptimizer, int K, bool kRacy>
__global__ void __launch_bounds__(kUserWarps* kWarpSize, 4)
    train_users_kernel(SgdStageView s, const int32_t* users, Loss loss, SgdProblem problem, SgdOrder o) {
  const int64_t w = int64_t{blockIdx.x} * kUserWarps + threadIdx.x / kWarpSize;
  if (w >= problem.data.n_rows) return;
  const SgdPiece piece = s.pieces[0];
  const int32_t user = users[w];
  int64_t begin = problem.data.row_ptr[user], end = problem.data.row_ptr[user + 1];
  if (o.first_visit != nullptr) begin = o.first_visit[begin], end = o.first_visit[end];
  begin = max(begin, piece.begin);
  end = min(end, piece.end);
  for (int64_t visit = begin; visit < end; ++visit) {
    const int64_t at = visit - piece.begin, e = o.entry_of != nullptr ? o.entry_of[visit] : visit;
    const int32_t* items = s.items + at * s.m;
    if (items[0] < 0) continue;
    const float value = problem.data.values != nullptr ? problem.data.values[e] : 1.0f;
    const float x = loss.template train<kOptimizer, K, kRacy>(problem, user, value, items, s.coefficients + at * s.m,
                                                              s.steps + at * s.m);
    if (Warp::lane() == 0) s.losses[at] = x;
  }
}

// users (n_users) = all users, those with the most entries first: they take longest. Within a factor of two of entries
// in ascending order.
void users_by_length(int32_t* users, const Csr& data, Stream stream);

template <class Loss, SgdOptimizer kOptimizer, int K>
void train_levels(const SgdStage& stage, const std::vector<SgdPiece>& pieces, int n_blocks, const Loss& loss,
                  const SgdProblem& problem, Stream stream) {
  for (size_t first = 0; first < pieces.size(); first += static_cast<size_t>(n_blocks)) {
    launch(train_levels_kernel<Loss, kOptimizer, K>, dim3(static_cast<unsigned>(n_blocks)),
           dim3(kLevelWarps * kWarpSize), 0, stream, stage.view(), static_cast<int64_t>(first), loss, problem);
  }
}

// All stages of an epoch, in order: of whole rounds, or where one is too large, of windows of its cells.
inline std::vector<std::vector<SgdPiece>> stages_of(const SgdPlan& plan, int n_blocks, int64_t bytes_per_visit,
                                                    int64_t bytes_per_piece) {
  std::vector<std::vector<SgdPiece>> stages;
  int64_t bytes = 0;
  for (int round = 0; round < n_blocks; ++round) {
    int64_t longest = 0, visits = 0;
    for (int b = round * n_blocks; b < (round + 1) * n_blocks; ++b) {
      const int64_t n = plan.visits_begin(b + 1) - plan.visits_begin(b);
      longest = std::max(longest, n);
      visits += n;
    }
    const int64_t round_bytes = visits * bytes_per_visit + n_blocks * bytes_per_piece;
    const bool whole = round_bytes <= kStageBytes;
    const int64_t window =
        whole ? std::max<int64_t>(longest, 1) : std::max<int64_t>(1, kStageBytes / bytes_per_visit / n_blocks);
    for (int64_t skipped = 0; skipped < longest; skipped += window) {
      if (!whole || stages.empty() || bytes + round_bytes > kStageBytes) {
        stages.emplace_back();
        bytes = whole ? 0 : kStageBytes;
      }
      bytes += round_bytes;
      std::vector<SgdPiece>& pieces = stages.back();
      for (int b = round * n_blocks; b < (round + 1) * n_blocks; ++b) {
        const int64_t last = plan.visits_begin(b + 1), begin = std::min(plan.visits_begin(b) + skipped, last);
        const int64_t local = pieces.empty() ? 0 : pieces.back().local + pieces.back().end - pieces.back().begin;
        pieces.push_back({begin, std::min(begin + window, last), local});
      }
    }
  }
  return stages;
}

template <class Loss, SgdOptimizer kOptimizer, int K>
SgdTotals sgd_run(const SgdProblem& problem, const double* cdf, const Loss& loss) {
  const Stream stream = current_stream();
  const bool by_users = !problem.deterministic || problem.frozen == SgdFrozen::kItems;
  const int n_blocks = by_users ? 1 : SgdPlan::n_blocks(problem.data.n_rows, problem.data.n_cols, Loss::kRowsPerBlock);
  const SgdPlan plan(problem, n_blocks, cdf, stream);
  DeviceBuffer<int32_t> users(by_users ? problem.data.n_rows : 0, stream);
  if (by_users) users_by_length(users.data(), problem.data, stream);
  SgdTotals sum;
  const int m = 1 + loss.n_drawn;
  const int64_t per_piece = by_users ? 0 : problem.data.n_cols * static_cast<int64_t>(sizeof(int32_t));
  for (const auto& pieces : stages_of(plan, n_blocks, SgdStage::bytes(m, !by_users, Loss::kScratch), per_piece)) {
    const SgdStage stage(problem, plan, pieces, m, !by_users, Loss::kScratch, stream);
    const dim3 grid(blocks_for(problem.data.n_rows, kUserWarps)), block(kUserWarps * kWarpSize);
    if (!by_users) {
      train_levels<Loss, kOptimizer, K>(stage, pieces, n_blocks, loss, problem, stream);
    } else if (problem.frozen == SgdFrozen::kItems) {
      launch(train_users_kernel<Loss, kOptimizer, K, false>, grid, block, 0, stream, stage.view(), users.data(), loss,
             problem, plan.order());
    } else {
      launch(train_users_kernel<Loss, kOptimizer, K, true>, grid, block, 0, stream, stage.view(), users.data(), loss,
             problem, plan.order());
    }
    const SgdTotals totals = stage.totals(loss.per_visit(problem), stream);
    sum.loss += totals.loss;
    sum.n_trained += totals.n_trained;
    sum.n_skipped += totals.n_skipped;
  }
  return sum;
}

// Rows of up to 128 numbers stay in registers between a sample's score and its step; those of most models have kernels
// of their own.
template <class Loss, SgdOptimizer kOptimizer>
SgdTotals sgd_run_width(const SgdProblem& problem, const double* cdf, const Loss& loss) {
  if constexpr (Loss::kItems > 0) {
    const int64_t d = problem.items.rows.d;
    if constexpr (kOptimizer == SgdOptimizer::kSgd) {
      if (d <= 2 * kWarpSize) return sgd_run<Loss, kOptimizer, 2>(problem, cdf, loss);
    }
    if (d <= 4 * kWarpSize) return sgd_run<Loss, kOptimizer, 4>(problem, cdf, loss);
  }
  return sgd_run<Loss, kOptimizer, 0>(problem, cdf, loss);
}

template <class Loss>
SgdTotals sgd_epoch(const SgdProblem& problem, const double* cdf, const Loss& loss) {
  if (problem.users.features.row_ptr != nullptr || problem.items.features.row_ptr != nullptr) {
    throw std::invalid_argument("features: the CUDA backend has none yet. Use device=\"cpu\"");
  }
  if (problem.optimizer == SgdOptimizer::kAdagrad) {
    return sgd_run_width<Loss, SgdOptimizer::kAdagrad>(problem, cdf, loss);
  }
  if (problem.optimizer == SgdOptimizer::kAdam) return sgd_run_width<Loss, SgdOptimizer::kAdam>(problem, cdf, loss);
  return sgd_run_width<Loss, SgdOptimizer::kSgd>(problem, cdf, loss);
}

}  // namespace recsys_fast
