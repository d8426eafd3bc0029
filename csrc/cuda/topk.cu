#include "ops/topk.h"

#include <algorithm>

#include "cuda/rank_finish.h"
#include "cuda/rank_lists.h"
#include "cuda/topk_scan.h"

namespace recsys_fast {
namespace {

// ids = -1, scores = -infinity, n of each.
__global__ void empty_lists_kernel(int32_t* ids, float* scores, int64_t n) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < n; i += step) {
    ids[i] = -1;
    scores[i] = -INFINITY;
  }
}

}  // namespace

void empty_lists(const ListSink& lists, Stream stream) {
  const int64_t n = lists.ids.n * lists.ids.d;
  if (n == 0) return;
  const dim3 grid(static_cast<unsigned>(std::min<int64_t>((n + 255) / 256, 4096)));
  launch(empty_lists_kernel, grid, dim3(256), 0, stream, lists.ids.data, lists.scores.data, n);
}

template <>
void topk<Cuda>(Rows<int32_t> ids, Rows<float> scores, Rows<const float> queries, Rows<const float> items,
                const Eligible& eligible, int) {
  const Stream stream = current_stream();
  const ListSink sink{ids, scores};
  RankTask task = {queries, items, eligible, 0, nullptr, queries.n};
  task.k = std::min(ids.d, task.n_candidates());
  if (ids.n == 0 || ids.d == 0) return;
  if (task.k == 0) return empty_lists(sink, stream);
  scan_batches(task, [&](const RankBatch& batch) { finish_batch(batch, sink, stream); }, stream);
}

}  // namespace recsys_fast
