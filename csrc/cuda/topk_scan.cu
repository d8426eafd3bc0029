// Exact top-k by fused tiles. A block of 256 threads holds a tile of 64 or 128 queries by 128 items of scores in
// registers, 4 or 8 rows by 8 columns a thread, and streams the items by; slabs of 8 coordinates go through shared
// memory, the next one on its way while one is multiplied. Scores that reach a query's bound go to its buffer in device
// memory (L2, in effect), a few per thousand once the bound is warm; a warp thins a full buffer out: seen items go,
// then all but the best k by radix selection with bins in shared memory, and the bound rises to the worst kept.
//
// Floor: n_queries * n_items * d FFMA, 128 an SM and clock; n_items * d floats from L2 per tile of queries, 32 FFMA a
// byte with 128 queries. A tile costs 6 shared-memory wavefronts for 64 FFMA a warp (16 clocks): FFMA bound. 64
// accumulators, 16 operands and 8 floats in flight fit in 128 registers, so two blocks share an SM, and one computes
// while the other thins out.
//
// Exact and deterministic: each score is one chain of FFMAs over k = 0 .. d - 1 whatever the tile, keys are totally
// ordered, and what is dropped has k better keys; the order in which atomics hand out places does not matter.
#include "cuda/topk_scan.h"

#include <algorithm>

#include "cuda/key_select.h"
#include "cuda/rank_key.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kSlab = 8;  // coordinates a step: 8 lanes read the 32 contiguous bytes of a sector
constexpr int kTileItems = 128;
constexpr int kSide = 16;                 // threads along either side of a tile
constexpr int kItemStride = 128 / 4 + 1;  // quads; odd, so that 8 lanes with 8 coordinates store to 8 groups of banks

struct alignas(16) Quad {
  float v[4];
};

struct Thinned {
  uint32_t size;
  float least;  // the bound for items to come; minus infinity while fewer than k are known
};

// By one warp: drops the seen ones of keys[n_unseen] to keys[size], then what more than k + slack keys are better than.
__device__ Thinned thin_out(uint64_t* keys, uint32_t n_unseen, uint32_t size, const IdRow& seen, uint32_t k,
                            uint32_t slack, Shared<uint32_t> bins) {
  const uint32_t lane = threadIdx.x % 32, lower = (1u << lane) - 1;
  uint32_t n = n_unseen;
  for (uint32_t base = n_unseen; base < size; base += 32) {  // writes never overtake reads
    const uint64_t key = base + lane < size ? keys[base + lane] : 0;
    const bool kept = key != 0 && !seen.contains(key_id(key));
    const unsigned mask = __ballot_sync(kFullMask, kept);
    if (kept) keys[n + __popc(mask & lower)] = key;
    n += __popc(mask);
  }
  __syncwarp();
  if (n < k) return {n, -INFINITY};
  uint64_t bound = 0;
  if (n > k) {
    bound = reached_by(WarpTeam{}, bins, k, slack, [&](auto&& use) {
      for (uint32_t i = lane; i < n; i += 32) use(keys[i]);
    });
  }
  const uint32_t end = n;
  uint64_t worst = ~uint64_t{0};
  n = 0;
  for (uint32_t base = 0; base < end; base += 32) {
    const uint64_t key = base + lane < end ? keys[base + lane] : 0;
    const bool kept = key != 0 && key >= bound;
    const unsigned mask = __ballot_sync(kFullMask, kept);
    if (kept) {
      keys[n + __popc(mask & lower)] = key;
      if (key < worst) worst = key;
    }
    n += __popc(mask);
  }
  for (int step = 16; step > 0; step /= 2) {
    const uint64_t other = __shfl_xor_sync(kFullMask, worst, step);
    if (other < worst) worst = other;
  }
  __syncwarp();
  return {n, score_above(worst)};
}

// Block (x, y): queries x * 64 * kQuads on, items y * split_items on.
template <int kQuads>
__global__ void __launch_bounds__(kThreads, 2) topk_scan_kernel(RankBatch batch) {
  constexpr int kRows = 4 * kQuads * kSide, kQueryStride = kRows / 4 + 1;
  RF_SHARED(Quad, item_slabs, 2 * kSlab * kItemStride);
  RF_SHARED(Quad, query_slabs, 2 * kSlab * kQueryStride);
  RF_SHARED(uint32_t, bins, kWarps* kKeyBins);
  RF_SHARED(float, least, kRows);
  RF_SHARED(uint32_t, sizes, kRows);
  RF_SHARED(uint32_t, n_unseen, kRows);
  RF_SHARED(int32_t, query_of, kRows);  // in registers, their addresses would spill

  const RankTask& task = batch.task;
  const int d = static_cast<int>(task.items.d), n_slabs = d > 0 ? (d + kSlab - 1) / kSlab : 1;
  const int64_t first = int64_t{blockIdx.x} * kRows;
  const int n_rows = static_cast<int>(min(batch.n - first, int64_t{kRows}));
  const int64_t begin = blockIdx.y * batch.split_items;
  int left = static_cast<int>(min(batch.split_items, task.n_candidates() - begin));  // items from the tile on
  const int t = static_cast<int>(threadIdx.x), warp = t / 32, lane = t % 32;
  const int column = t % kSlab, quad = t / kSlab, tx = t % kSide, ty = t / kSide;
  const auto row_keys = [&](int r) {
    return batch.keys + ((first + r) * batch.n_splits + blockIdx.y) * batch.capacity;
  };

  for (int r = t; r < kRows; r += kThreads) {
    least[r] = r < n_rows ? -INFINITY : NAN;  // nothing reaches NaN
    sizes[r] = 0;
    n_unseen[r] = 0;
    query_of[r] = static_cast<int32_t>(task.query(batch.first + first + min(r, n_rows - 1)));
  }
  __syncthreads();

  // A thread's share of a slab: a coordinate of 4 items and of 4 queries. Rows beyond the end repeat the last one.
  Quad item_part, query_part;
  const bool has_query = quad < kRows / 4;
  const auto load = [&](int64_t tile, int n_items, int slab) {
    const int k = slab * kSlab + column;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int64_t item = task.candidate(tile + min(4 * quad + i, n_items - 1));
      item_part.v[i] = k < d ? task.items.data[item * d + k] : 0.0f;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (!has_query) continue;
      const int32_t query = query_of[4 * quad + i];
      query_part.v[i] = k < d ? task.queries.data[int64_t{query} * d + k] : 0.0f;
    }
  };
  const auto store = [&](int buffer) {
    const int slab_row = buffer * kSlab + column;
    item_slabs[slab_row * kItemStride + quad] = item_part;
    if (has_query) query_slabs[slab_row * kQueryStride + quad] = query_part;
  };

  int buffer = 0;
  load(begin, left, 0);
  store(buffer);
  __syncthreads();
  for (int64_t tile = begin; left > 0; tile += kTileItems, left -= kTileItems) {
    float sums[4 * kQuads][8] = {};
    for (int slab = 0; slab < n_slabs; ++slab, buffer ^= 1) {
      const bool last = slab + 1 == n_slabs, more = !last || left > kTileItems;
      if (more) load(last ? tile + kTileItems : tile, last ? left - kTileItems : left, last ? 0 : slab + 1);
#pragma unroll 4  // all 8 at once would spill
      for (int k = 0; k < kSlab; ++k) {
        const int slab_row = buffer * kSlab + k;
        Quad x[kQuads], y[2];
#pragma unroll
        for (int h = 0; h < kQuads; ++h) x[h] = query_slabs[slab_row * kQueryStride + ty + kSide * h];
#pragma unroll
        for (int h = 0; h < 2; ++h) y[h] = item_slabs[slab_row * kItemStride + tx + kSide * h];
#pragma unroll
        for (int i = 0; i < 4 * kQuads; ++i) {
#pragma unroll
          for (int j = 0; j < 8; ++j) sums[i][j] += x[i / 4].v[i % 4] * y[j / 4].v[j % 4];
        }
      }
      if (more) store(buffer ^ 1);
      if (!last) __syncthreads();
    }

#pragma unroll
    for (int i = 0; i < 4 * kQuads; ++i) {
      const int r = 4 * (ty + kSide * (i / 4)) + i % 4;
      const float bound = least[r];
      bool any = false;
#pragma unroll
      for (int j = 0; j < 8; ++j) any |= sums[i][j] >= bound;
      if (!any) continue;
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        const int at = 4 * (tx + kSide * (j / 4)) + j % 4;
        if (sums[i][j] >= bound && at < left) {
          const uint32_t place = atomicAdd(&sizes[r], 1u);
          row_keys(r)[place] = rank_key(sums[i][j], static_cast<int32_t>(task.candidate(tile + at)));
        }
      }
    }
    __syncthreads();

    // A warp looks at every kWarps-th row: those of neighbouring queries fill up together.
    const bool at_end = left <= kTileItems;
    const int own = warp + kWarps * lane;
    const bool full = own < n_rows && (at_end || sizes[own] > batch.limit);
    for (unsigned rest = __ballot_sync(kFullMask, full); rest != 0; rest &= rest - 1) {
      const int r = warp + kWarps * (__ffs(static_cast<int>(rest)) - 1);
      const Thinned thinned = thin_out(row_keys(r), n_unseen[r], sizes[r], task.seen(query_of[r]),
                                       static_cast<uint32_t>(task.k), batch.slack, bins + warp * kKeyBins);
      __syncwarp();
      if (lane == 0) {
        sizes[r] = thinned.size;
        n_unseen[r] = thinned.size;
        least[r] = thinned.least;
        if (at_end) batch.sizes[(first + r) * batch.n_splits + blockIdx.y] = thinned.size;
      }
    }
    __syncthreads();
  }
}

uint32_t power_of_two(uint64_t least) {
  uint32_t n = 1;
  while (n < least) n *= 2;
  return n;
}

}  // namespace

void scan_batches(const RankTask& task, const std::function<void(const RankBatch&)>& finish, Stream stream) {
  constexpr int64_t kBufferBytes = int64_t{512} << 20;  // 8,000 lists of 5,000 items, or 300,000 of 10
  constexpr int64_t kLeastSplit = 4 * kTileItems;       // items from which another block's own list pays
  const int64_t k = task.k, n_candidates = task.n_candidates(), n_sms = n_multiprocessors();
  RankBatch batch = {};
  batch.task = task;
  batch.slack = static_cast<uint32_t>(k / 8 + 4);
  batch.limit = static_cast<uint32_t>(k + std::max<int64_t>(k / 2, 64));
  batch.capacity = (batch.limit + kTileItems + 15) / 16 * 16;
  batch.sorted_size = power_of_two(static_cast<uint64_t>(k) + batch.slack);

  const int64_t most_rows = std::max<int64_t>(kBufferBytes / (8 * batch.capacity), 64);
  // Tiles of 128 queries read the items half as often, where they leave no multiprocessor without work.
  const bool wide = std::min(most_rows, task.n_wanted) >= 128 * n_sms;
  const int64_t tile_rows = wide ? 128 : 64;
  const int64_t n_rows = std::min(task.n_wanted, most_rows / tile_rows * tile_rows);
  const int64_t n_tiles = (n_rows + tile_rows - 1) / tile_rows;
  const int64_t most_splits =
      std::min({n_candidates / std::max(kLeastSplit, 4 * k), most_rows / n_rows, 2 * n_sms / n_tiles, int64_t{65535}});
  const int64_t split_items = (n_candidates / std::max<int64_t>(most_splits, 1) + kTileItems) / kTileItems * kTileItems;
  batch.split_items = split_items;
  batch.n_splits = static_cast<int32_t>((n_candidates + split_items - 1) / split_items);

  DeviceBuffer<uint64_t> keys(n_rows * batch.n_splits * batch.capacity);
  DeviceBuffer<uint32_t> sizes(n_rows * batch.n_splits);
  const bool needs_room = batch.sorted_size > kMostSharedKeys;
  DeviceBuffer<uint64_t> room(needs_room ? n_rows * batch.sorted_size : 0);
  batch.keys = keys.data();
  batch.sizes = sizes.data();
  batch.room = room.data();  // null where it is empty
  for (batch.first = 0; batch.first < task.n_wanted; batch.first += n_rows) {
    batch.n = std::min(n_rows, task.n_wanted - batch.first);
    const dim3 grid(static_cast<unsigned>((batch.n + tile_rows - 1) / tile_rows), batch.n_splits);
    launch(wide ? topk_scan_kernel<2> : topk_scan_kernel<1>, grid, dim3(kThreads), 0, stream, batch);
    finish(batch);
  }
}

}  // namespace recsys_fast
