// The scan that topk and rank_metrics share.
#pragma once

#include "cpu/id_row.h"
#include "ops/topk.h"

namespace recsys_fast {

// Receives each query's list as soon as it is known, from any worker.
class RankSink {
 public:
  virtual ~RankSink() = default;
  virtual void take(int64_t query, const int32_t* ids, const float* scores, int64_t n) = 0;
};

struct RankTask {
  Rows<const float> queries, items;
  Eligible eligible;
  int64_t k;              // length of a list
  const int32_t* wanted;  // queries to serve; null: all
  int64_t n_wanted;

  int64_t n_candidates() const { return eligible.candidates == nullptr ? items.n : eligible.n_candidates; }
  int32_t candidate(int64_t j) const {
    return eligible.candidates == nullptr ? static_cast<int32_t>(j) : eligible.candidates[j];
  }
  int64_t query(int64_t i) const { return wanted == nullptr ? i : wanted[i]; }
  IdRow seen(int64_t query) const {
    if (eligible.seen_row_ptr == nullptr) return {};
    const int64_t begin = eligible.seen_row_ptr[query];
    return {eligible.seen_col_idx + begin, eligible.seen_row_ptr[query + 1] - begin};
  }
};

// How many queries a thread should take through all items at once: at most `most`, fewer where a tile would keep the
// caller from looking at Ctrl-C for long, or leave a thread without work. A multiple of kTileRows.
int64_t tile_queries(const RankTask& task, int64_t most, int n_threads);

// Gives sink the best min(k, number of eligible items) items of every wanted query, best first.
void rank_items(const RankTask& task, RankSink& sink, int n_threads);

// rank_items for few queries: parallel over the items, which are neither copied nor sorted. Scores are canonical at
// once, so that infinities are ranked too; a score that is not a number is never given.
void rank_items_directly(const RankTask& task, RankSink& sink, int n_threads);

}  // namespace recsys_fast
