// A block takes four users past all candidates, a candidate per thread, so that a row of items serves four scores.
// What is counted over all candidates is then taken back for the seen and the relevant ones, whose scores come from the
// same sums in the same order and so compare equal to themselves.
//
// Floor: n_users * n_candidates * (d FFMA + |R| pairs of comparisons); rows come from L2 once per four users.
#include "cuda/reduce.h"
#include "cuda/topk_scan.h"
#include "ops/rank_metrics.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256, kUsers = 4;

__device__ bool is_candidate(const RankTask& task, int32_t id) {
  return task.eligible.candidates == nullptr ||
         IdRow{task.eligible.candidates, task.eligible.n_candidates}.contains(id);
}

__device__ float dot(const float* a, const float* b, int64_t d) {
  float sum = 0.0f;
  for (int64_t k = 0; k < d; ++k) sum += a[k] * b[k];
  return sum;
}

// Twice how many of the n relevant scores are above `score`, plus those equal to it.
__device__ int64_t twice_above(const float* relevant, int n, float score) {
  int64_t found = 0;
  for (int i = 0; i < n; ++i) found += (relevant[i] > score) + (relevant[i] >= score);
  return found;
}

// relevant: room for a score per test item, at the item's place.
__global__ void __launch_bounds__(kThreads) rank_auc_kernel(double* out, RankTask task, Csr test, float* relevant) {
  RF_SHARED(int64_t, scratch, 32);
  RF_SHARED(int, n_relevant, kUsers);  // eligible ones
  RF_SHARED(int, n_taken, kUsers);     // candidates that the user has seen
  const int t = static_cast<int>(threadIdx.x);
  const int64_t first = int64_t{blockIdx.x} * kUsers, d = task.items.d;
  const int n_users = static_cast<int>(min(int64_t{kUsers}, task.queries.n - first));
  if (t < kUsers) {
    n_relevant[t] = 0;
    n_taken[t] = 0;
  }
  __syncthreads();

  for (int u = 0; u < n_users; ++u) {
    const int64_t user = first + u, begin = test.row_ptr[user], end = test.row_ptr[user + 1];
    const IdRow seen = task.seen(user);
    for (int64_t e = begin + t; e < end; e += kThreads) {
      const int32_t id = test.col_idx[e];
      if (!is_candidate(task, id) || seen.contains(id)) continue;
      relevant[begin + atomicAdd(&n_relevant[u], 1)] = dot(task.queries.row(user), task.items.row(id), d);
    }
  }
  __syncthreads();

  int64_t below[kUsers] = {};
  const float* queries[kUsers];
  const float* scores[kUsers];
  int n_scores[kUsers];
#pragma unroll
  for (int u = 0; u < kUsers; ++u) {
    const int64_t user = first + min(u, n_users - 1);
    queries[u] = task.queries.row(user);
    scores[u] = relevant + test.row_ptr[user];
    n_scores[u] = u < n_users ? static_cast<int>(n_relevant[u]) : 0;
    if (n_scores[u] == 0) continue;
    for (int i = t; i < n_scores[u]; i += kThreads) below[u] -= twice_above(scores[u], n_scores[u], scores[u][i]);
    const IdRow seen = task.seen(user);
    for (int64_t e = t; e < seen.n; e += kThreads) {
      if (!is_candidate(task, seen.ids[e])) continue;
      below[u] -= twice_above(scores[u], n_scores[u], dot(queries[u], task.items.row(seen.ids[e]), d));
    }
  }
  for (int u = 0; u < n_users; ++u) {
    const IdRow seen = task.seen(first + u);
    for (int64_t e = t; e < seen.n; e += kThreads) {
      if (is_candidate(task, seen.ids[e])) atomicAdd(&n_taken[u], 1);
    }
  }
  for (int64_t j = t; j < task.n_candidates(); j += kThreads) {
    const float* row = task.items.row(task.candidate(j));
    float sums[kUsers] = {};
    for (int64_t k = 0; k < d; ++k) {
      const float x = row[k];
#pragma unroll
      for (int u = 0; u < kUsers; ++u) sums[u] += queries[u][k] * x;
    }
#pragma unroll
    for (int u = 0; u < kUsers; ++u) below[u] += twice_above(scores[u], n_scores[u], sums[u]);
  }
#pragma unroll
  for (int u = 0; u < kUsers; ++u) {
    const int64_t total = Block::sum(below[u], scratch);
    if (t != 0 || u >= n_users) continue;
    const int64_t n_others = task.n_candidates() - n_scores[u] - static_cast<int>(n_taken[u]);
    const double n_pairs = static_cast<double>(test.row_size(first + u)) * static_cast<double>(n_others);
    out[first + u] = n_pairs > 0.0 ? static_cast<double>(total) / (2.0 * n_pairs) : NAN;
  }
}

}  // namespace

template <>
void rank_auc<Cuda>(double* out, Rows<const float> queries, Rows<const float> items, const Eligible& eligible, Csr test,
                    int) {
  if (queries.n == 0) return;
  const Stream stream = current_stream();
  DeviceBuffer<float> relevant(read_element(test.row_ptr + test.n_rows, stream), stream);
  const RankTask task = {queries, items, eligible, 0, nullptr, queries.n};
  launch(rank_auc_kernel, dim3(blocks_for(queries.n, kUsers)), dim3(kThreads), 0, stream, out, task, test,
         relevant.data());
}

}  // namespace recsys_fast
