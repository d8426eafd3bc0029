// One engine for all SGD epochs: it walks the schedule, makes the visits, and hands them to a loss.
//
// A loss is a template over the rows (PlainRows or BagRows) with
//   Parameters                        what the operation was called with
//   words(Parameters)                 random words that a visit will use, most likely
//   kRowsPerBlock                     the smallest blocks of the schedule
//   kAhead                            how many visits ahead of training prepare runs, up to the batch
//   kCells                            1, or 2: visits of two cells by turns pay
//   most_items(Parameters)            items in the largest sample
//   scratch_bytes(Parameters)         what the constructor takes from the arena
//   prepare(batch, t)                 whatever does not depend on the tables: negatives, prefetches
//   train(batch, t)                   one sample
//   finish(batch)                     after the batch; adds to totals
#pragma once

#include "core/thread_pool.h"
#include "cpu/sgd_bags.h"
#include "cpu/sgd_visits.h"

namespace recsys_fast {

// What a loss works with: its rows, its sampler, and the totals of its part of the epoch.
template <class Rows_>
struct SgdWorker {
  const SgdProblem& problem;
  SgdSampler sampler;
  Rows_ rows;
  SgdTotals totals{};
};

// A part of the epoch on its way through its visits.
template <class Loss, class Entries>
class SgdLane {
  using Rows_ = typename Loss::Rows_;
  using Parameters = typename Loss::Parameters;

 public:
  static size_t scratch_bytes(const SgdProblem& problem, const Parameters& parameters) {
    return Rows_::scratch_bytes(problem, Loss::most_items(parameters)) + Loss::scratch_bytes(parameters);
  }
  SgdLane(const SgdProblem& problem, const SgdBlock& block, const Parameters& parameters, Entries entries, Arena& arena)
      : worker_{problem, SgdSampler(block), Rows_(problem, Loss::most_items(parameters), arena)},
        loss_(worker_, parameters, arena),
        visits_(problem, entries),
        batch_(Loss::words(parameters)) {}
  SgdLane(const SgdLane&) = delete;
  SgdLane& operator=(const SgdLane&) = delete;

  // Visits that can be made before the next batch; 0 at the end.
  RF_INLINE int ready() {
    if (t_ == batch_.n) next_batch();
    return batch_.n - t_;
  }
  RF_INLINE void step() {
    if (t_ + Loss::kAhead < batch_.n) loss_.prepare(batch_, t_ + Loss::kAhead);
    worker_.rows.set_user(batch_.user[t_]);
    loss_.train(batch_, t_++);
  }
  SgdTotals rest() {
    while (ready() > 0) step();
    worker_.rows.finish();
    return worker_.totals;
  }

 private:
  void next_batch() {
    if (t_ > 0) loss_.finish(batch_);
    visits_.fill(batch_);
    t_ = 0;
    if (batch_.n == 0) return;
    visits_.draw(batch_);
    for (int t = 0; t < std::min(Loss::kAhead, batch_.n); ++t) loss_.prepare(batch_, t);
  }

  SgdWorker<Rows_> worker_;
  Loss loss_;
  SgdVisits<Entries> visits_;
  SgdBatch batch_;
  int t_ = 0;
};

template <class Loss, class Entries>
SgdTotals sgd_train(const SgdProblem& problem, const SgdBlock& block, const typename Loss::Parameters& parameters,
                    Entries entries) {
  Arena& arena = thread_arena();
  arena.reset(SgdLane<Loss, Entries>::scratch_bytes(problem, parameters));
  return SgdLane<Loss, Entries>(problem, block, parameters, entries, arena).rest();
}

// Two parts that share nothing, their visits by turns: a visit is a chain of dependent instructions (product, slope,
// step), and the processor works at both chains at once. The bits are those of one part after the other.
template <class Loss, class Entries>
void sgd_train_two(const SgdProblem& problem, const typename Loss::Parameters& parameters, const SgdBlock& block_a,
                   Entries entries_a, SgdTotals& totals_a, const SgdBlock& block_b, Entries entries_b,
                   SgdTotals& totals_b) {
  using Lane = SgdLane<Loss, Entries>;
  Arena& arena = thread_arena();
  arena.reset(2 * Lane::scratch_bytes(problem, parameters));
  Lane a(problem, block_a, parameters, entries_a, arena), b(problem, block_b, parameters, entries_b, arena);
  for (int n = std::min(a.ready(), b.ready()); n > 0; n = std::min(a.ready(), b.ready())) {
    for (; n > 0; --n) {
      a.step();
      b.step();
    }
  }
  totals_a = a.rest();
  totals_b = b.rest();
}

inline SgdTotals sgd_sum(const std::vector<SgdTotals>& parts) {
  SgdTotals sum;
  for (const SgdTotals& part : parts) {
    sum.loss += part.loss;
    sum.n_trained += part.n_trained;
    sum.n_skipped += part.n_skipped;
  }
  return sum;
}

// Users in order with the whole catalogue as one block: one after the other, or in parallel where they share nothing
// (items frozen) or need not be in order. In the last case threads race on the item and feature rows with plain vector
// loads and stores (Niu et al. 2011): formally undefined, in practice a lost or half-applied step of one row. Relaxed
// atomic floats would say the same to the processor, but no compiler makes vectors of them. Nothing but numbers of the
// tables is ever raced on, so no address or count can go wrong.
template <class Loss>
SgdTotals sgd_by_rows(const SgdProblem& problem, const double* cdf, const typename Loss::Parameters& parameters,
                      int n_threads) {
  constexpr int64_t kEntriesPerChunk = 4096;
  const Csr& data = problem.data;
  const bool users_share = problem.users.features.row_ptr != nullptr;
  const bool in_order = problem.deterministic && (problem.frozen != SgdFrozen::kItems || users_share);
  const int64_t per_user = data.n_rows > 0 ? data.nnz() / data.n_rows + 1 : 1;
  const int64_t grain = std::max<int64_t>(1, kEntriesPerChunk / per_user);
  const SgdBlock block{nullptr, data.n_cols, cdf, cdf};
  std::vector<SgdTotals> parts((data.n_rows + grain - 1) / grain);
  parallel_for(data.n_rows, grain, in_order ? 1 : n_threads, [&](int64_t begin, int64_t end, int) {
    parts[begin / grain] = sgd_train<Loss>(problem, block, parameters, SgdRowEntries(problem, begin, end));
  });
  return sgd_sum(parts);
}

// Cell (b, b + r) must come after (b, b + r - 1), which has its users, and (b + 1, b + r), which has its items; nothing
// else matters. So a group of neighbouring user blocks takes the cells of one item block one after the other, from the
// last user block to the first, and the item block stays in the cache meanwhile; groups are at different item blocks.
template <class Loss>
SgdTotals sgd_by_cells(const SgdProblem& problem, int n_blocks, const double* cdf,
                       const typename Loss::Parameters& parameters, int n_threads) {
  const SgdPlan plan(problem, n_blocks, cdf, n_threads);
  std::vector<SgdTotals> parts(static_cast<size_t>(n_blocks * n_blocks));
  const int at_once = 2 * n_threads <= n_blocks ? Loss::kCells : 1;  // groups of a thread
  const int n_groups = std::min(at_once * n_threads, n_blocks), most = (n_blocks + n_groups - 1) / n_groups;
  const auto first_of = [&](int64_t group) { return static_cast<int>(group * n_blocks / n_groups); };
  for (int sweep = 0; sweep < n_blocks + most - 1; ++sweep) {
    // The cells of a group: user blocks [first, last] that have an item block in this sweep.
    const auto first = [&](int64_t g) { return first_of(g) + std::max(0, sweep - n_blocks + 1); };
    const auto last = [&](int64_t g) { return std::min(first_of(g + 1) - 1, first_of(g) + sweep); };
    const auto item_block = [&](int64_t g) { return (first_of(g) + sweep) % n_blocks; };
    const auto entries = [&](int64_t g, int b) { return SgdCellEntries(plan.cell(b, item_block(g))); };
    const auto total = [&](int64_t g, int b) -> SgdTotals& { return parts[item_block(g) * n_blocks + b]; };
    parallel_for(n_groups, at_once, n_threads, [&](int64_t g, int64_t end, int) {
      int b = last(g);
      if constexpr (Loss::kCells == 2) {
        if (g + 1 < end) {
          int c = last(g + 1);
          for (; b >= first(g) && c >= first(g + 1); --b, --c) {
            sgd_train_two<Loss>(problem, parameters, plan.block(item_block(g)), entries(g, b), total(g, b),
                                plan.block(item_block(g + 1)), entries(g + 1, c), total(g + 1, c));
          }
          for (; c >= first(g + 1); --c) {
            total(g + 1, c) = sgd_train<Loss>(problem, plan.block(item_block(g + 1)), parameters, entries(g + 1, c));
          }
        }
      }
      for (; b >= first(g); --b) {
        total(g, b) = sgd_train<Loss>(problem, plan.block(item_block(g)), parameters, entries(g, b));
      }
    });
  }
  return sgd_sum(parts);
}

// whole_rows: the loss needs all of a user's entries at once.
template <class Loss>
SgdTotals sgd_run(const SgdProblem& problem, const double* cdf, bool whole_rows,
                  const typename Loss::Parameters& parameters, int n_threads) {
  // Features are shared across blocks.
  if constexpr (!Loss::Rows_::kBags) {
    const int n_blocks = SgdPlan::n_blocks(problem.data.n_rows, problem.data.n_cols, Loss::kRowsPerBlock);
    if (n_blocks > 1 && !whole_rows && problem.deterministic && problem.frozen != SgdFrozen::kItems) {
      return sgd_by_cells<Loss>(problem, n_blocks, cdf, parameters, n_threads);
    }
  }
  return sgd_by_rows<Loss>(problem, cdf, parameters, n_threads);
}

// Picks the rows: bags where there are features; the widths that most models have are compiled for plain SGD.
template <template <class> class Loss, class Parameters>
SgdTotals sgd_epoch(const SgdProblem& p, const double* cdf, bool whole_rows, const Parameters& parameters,
                    int n_threads) {
  const auto run = [&]<class Rows_>() { return sgd_run<Loss<Rows_>>(p, cdf, whole_rows, parameters, n_threads); };
  const auto run_optimizer = [&]<template <class> class Any>() {
    if (p.optimizer == SgdOptimizer::kAdagrad) return run.template operator()<Any<Adagrad>>();
    if (p.optimizer == SgdOptimizer::kAdam) return run.template operator()<Any<Adam>>();
    return run.template operator()<Any<PlainSgd>>();
  };
  if (p.users.features.row_ptr != nullptr || p.items.features.row_ptr != nullptr) {
    return run_optimizer.template operator()<BagRows>();
  }
  // Not for lanes so narrow that a row is as many instructions as the loop around them is worth.
  if constexpr (kLanes >= 8) {
    if (p.optimizer == SgdOptimizer::kSgd && p.items.rows.d == 64) {
      return run.template operator()<PlainRows<PlainSgd, 64 / kLanes>>();
    }
    if (p.optimizer == SgdOptimizer::kSgd && p.items.rows.d == 128) {
      return run.template operator()<PlainRows<PlainSgd, 128 / kLanes>>();
    }
  }
  return run_optimizer.template operator()<AnyWidth>();
}

}  // namespace recsys_fast
