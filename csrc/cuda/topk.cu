#include "ops/topk.h"

#include <algorithm>

#include "cuda/rank_finish.h"
#include "cuda/rank_key.h"
#include "cuda/topk_scan.h"

namespace recsys_fast {
namespace {

struct ListSink {
  Rows<int32_t> ids;
  Rows<float> scores;

  template <class Keys>
  __device__ void take(const BlockTeam& team, int64_t query, const Keys& keys, uint32_t n) const {
    for (int64_t j = team.rank(); j < ids.d; j += team.size()) {
      ids.row(query)[j] = j < n ? key_id(keys[j]) : -1;
      scores.row(query)[j] = j < n ? key_score(keys[j]) : -INFINITY;
    }
  }
};

// ids = -1, scores = -infinity, n of each.
__global__ void empty_lists_kernel(int32_t* ids, float* scores, int64_t n) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) {
    ids[i] = -1;
    scores[i] = -INFINITY;
  }
}

}  // namespace

template <>
void topk<Cuda>(Rows<int32_t> ids, Rows<float> scores, Rows<const float> queries, Rows<const float> items,
                const Eligible& eligible, int) {
  const Stream stream = current_stream();
  RankTask task = {queries, items, eligible, 0, nullptr, queries.n};
  task.k = std::min(ids.d, task.n_candidates());
  if (ids.n == 0 || ids.d == 0) return;
  if (task.k == 0) {
    const int64_t n = ids.n * ids.d;
    const dim3 grid(static_cast<unsigned>(std::min<int64_t>((n + 255) / 256, 4096)));
    launch(empty_lists_kernel, grid, dim3(256), 0, stream, ids.data, scores.data, n);
    return;
  }
  const ListSink sink{ids, scores};
  scan_batches(task, [&](const RankBatch& batch) { finish_batch(batch, sink, stream); }, stream);
}

}  // namespace recsys_fast
