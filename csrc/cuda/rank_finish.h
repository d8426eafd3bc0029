// The end of a scan: a block per query merges the lists of the splits, sorts, and hands the list over to a sink.
#pragma once

#include <algorithm>

#include "cuda/key_select.h"
#include "cuda/topk_scan.h"

namespace recsys_fast {

template <class Sorted, class Sink>
__device__ void finish_query(const RankBatch& batch, const Sorted& sorted, const Sink& sink) {
  RF_SHARED(uint32_t, bins, kKeyBins);
  RF_SHARED(uint32_t, found, 1);
  const BlockTeam team;
  const int64_t q = blockIdx.x;
  const uint32_t* sizes = batch.sizes + q * batch.n_splits;
  const uint64_t* lists = batch.keys + q * batch.n_splits * batch.capacity;
  const unsigned warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_warps = blockDim.x / 32;
  const auto for_each = [&](auto&& use) {
    for (unsigned s = warp; s < static_cast<unsigned>(batch.n_splits); s += n_warps) {
      for (uint32_t i = lane; i < sizes[s]; i += 32) use(lists[s * batch.capacity + i]);
    }
  };
  const auto k = static_cast<uint32_t>(batch.task.k);
  uint64_t bound = 0;
  if (batch.n_splits > 1) {
    int64_t total = 0;
    for (int s = 0; s < batch.n_splits; ++s) total += sizes[s];
    if (total > batch.sorted_size) bound = reached_by(team, bins, k, batch.slack, for_each);
  }
  if (team.rank() == 0) found[0] = 0;
  team.sync();
  for_each([&](uint64_t key) {
    if (key >= bound) sorted[atomicAdd(&found[0], 1u)] = key;
  });
  team.sync();
  const uint32_t n = found[0];
  for (unsigned i = n + team.rank(); i < batch.sorted_size; i += team.size()) sorted[i] = 0;
  team.sync();
  sort_keys(team, sorted, batch.sorted_size);
  sink.take(team, batch.task.query(batch.first + q), sorted, n < k ? n : k);
}

// Block q: the q-th query of the batch. Dynamic shared memory for sorted_size keys, unless there is room elsewhere.
template <bool kInShared, class Sink>
__global__ void __launch_bounds__(1024) rank_finish_kernel(RankBatch batch, Sink sink) {
  if constexpr (kInShared) {
    RF_DYNAMIC_SHARED(uint64_t, sorted);
    finish_query(batch, sorted, sink);
  } else {
    uint64_t* sorted = batch.room + int64_t{blockIdx.x} * batch.sorted_size;
    finish_query(batch, sorted, sink);
  }
}

// A thread per exchange of the network: short lists take a warp, of which an SM holds many.
template <class Sink>
void finish_batch(const RankBatch& batch, const Sink& sink, Stream stream) {
  const unsigned by_list = std::clamp(batch.sorted_size / 2, 32u, 1024u);
  const dim3 grid(static_cast<unsigned>(batch.n)), block(batch.n_splits > 1 ? std::max(by_list, 256u) : by_list);
  if (batch.room == nullptr) {
    launch(rank_finish_kernel<true, Sink>, grid, block, batch.sorted_size * sizeof(uint64_t), stream, batch, sink);
  } else {
    launch(rank_finish_kernel<false, Sink>, grid, block, 0, stream, batch, sink);
  }
}

}  // namespace recsys_fast
