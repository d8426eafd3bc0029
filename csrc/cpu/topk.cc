#include "ops/topk.h"

#include <algorithm>

#include "core/simd.h"
#include "core/thread_pool.h"
#include "cpu/topk_candidates.h"
#include "cpu/topk_scan.h"

namespace recsys_fast {
namespace {

class ListSink : public RankSink {
 public:
  ListSink(Rows<int32_t> ids, Rows<float> scores) : ids_(ids), scores_(scores) {}
  void take(int64_t query, const int32_t* ids, const float* scores, int64_t n) override {
    std::copy_n(ids, n, ids_.row(query));
    std::copy_n(scores, n, scores_.row(query));
    std::fill(ids_.row(query) + n, ids_.row(query + 1), -1);
    std::fill(scores_.row(query) + n, scores_.row(query + 1), kNoScore);
  }

 private:
  Rows<int32_t> ids_;
  Rows<float> scores_;
};

}  // namespace

template <>
void topk<Cpu>(Rows<int32_t> ids, Rows<float> scores, Rows<const float> queries, Rows<const float> items,
               const Eligible& eligible, int n_threads) {
  ListSink sink(ids, scores);
  rank_items({queries, items, eligible, ids.d, nullptr, queries.n}, sink, n_threads);
}

}  // namespace recsys_fast
