// One engine for all SGD epochs: it walks the schedule, makes the visits, and hands them to a loss.
//
// A loss is a template over the rows (PlainRows or BagRows) with
//   Parameters                        what the operation was called with
//   words(Parameters)                 random words that a visit will use, most likely
//   kRowsPerBlock                     the smallest blocks of the schedule
//   kAhead                            how many visits ahead of training prepare runs, up to the batch
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

template <class Loss, class Entries>
SgdTotals sgd_train(const SgdProblem& problem, const SgdBlock& block, const typename Loss::Parameters& parameters,
                    Entries entries) {
  using Rows_ = typename Loss::Rows_;
  const int64_t most_items = Loss::most_items(parameters);
  Arena& arena = thread_arena();
  arena.reset(Rows_::scratch_bytes(problem, most_items) + Loss::scratch_bytes(parameters));
  SgdWorker<Rows_> worker{problem, SgdSampler(block), Rows_(problem, most_items, arena)};
  Loss loss(worker, parameters, arena);
  SgdVisits<Entries> visits(problem, entries);
  SgdBatch batch(Loss::words(parameters));
  for (visits.fill(batch); batch.n > 0; visits.fill(batch)) {
    visits.draw(batch);
    for (int t = 0; t < std::min(Loss::kAhead, batch.n); ++t) loss.prepare(batch, t);
    for (int t = 0; t < batch.n; ++t) {
      if (t + Loss::kAhead < batch.n) loss.prepare(batch, t + Loss::kAhead);
      worker.rows.set_user(batch.visits[t].user);
      loss.train(batch, t);
    }
    loss.finish(batch);
  }
  worker.rows.finish();
  return worker.totals;
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

template <class Loss>
SgdTotals sgd_by_cells(const SgdProblem& problem, int n_blocks, const double* cdf,
                       const typename Loss::Parameters& parameters, int n_threads) {
  const SgdPlan plan(problem, n_blocks, cdf, n_threads);
  std::vector<SgdTotals> parts(static_cast<size_t>(n_blocks * n_blocks));
  for (int round = 0; round < n_blocks; ++round) {
    parallel_for(n_blocks, 1, n_threads, [&](int64_t b, int64_t, int) {
      const int user_block = static_cast<int>(b), item_block = (user_block + round) % n_blocks;
      parts[round * n_blocks + b] = sgd_train<Loss>(problem, plan.block(item_block), parameters,
                                                    SgdCellEntries(plan.cell(user_block, item_block)));
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
