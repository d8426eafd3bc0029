// How well ranked lists find the items of a test set. R: the user's row of test (sorted ids), whether eligible or not.
#pragma once

#include "ops/topk.h"

namespace recsys_fast {

// Order of the metrics in out (m, kRankMetrics, n_ks), of the first k = ks[c] places of a list:
//   precision hits / k; recall hits / |R|; f1 their harmonic mean; hit_rate hits > 0;
//   ndcg sum over hits of 1 / log2(rank + 1), over its largest possible value, that of min(k, |R|) hits in front;
//   mrr 1 / rank of the first hit, else 0; map sum over hits of precision@rank, over min(k, |R|).
inline constexpr int64_t kRankMetrics = 7;

// out = metrics of the lists that topk would return, in one pass over the users. NaN where R is empty. float64.
// Overwrites. Deterministic for any n_threads.
template <class Device>
void rank_metrics(double* out, Rows<const float> queries, Rows<const float> items, const Eligible& eligible, Csr test,
                  const int32_t* ks, int64_t n_ks, int n_threads);

// The same of given lists: ids (m, n), best first, distinct; -1 for an empty place.
template <class Device>
void list_metrics(double* out, Rows<const int32_t> ids, Csr test, const int32_t* ks, int64_t n_ks, int n_threads);

// out (m) = sum over eligible r in R of (#{o in O: s_o < s_r} + #{o: s_o = s_r} / 2) / (|R| |O|), O the eligible items
// outside R, s float32 scores: a test item that is not eligible counts as ranked last. NaN where R or O is empty.
// Overwrites. Deterministic for any n_threads.
template <class Device>
void rank_auc(double* out, Rows<const float> queries, Rows<const float> items, const Eligible& eligible, Csr test,
              int n_threads);

}  // namespace recsys_fast
