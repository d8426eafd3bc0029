// Rows of a product with a sparse left side. A block holds a panel of up to 16,384 columns of one row in shared memory
// (64 KB: two blocks share a multiprocessor of sm_80, three of sm_90). With a sparse right side they are summed as
// product_rows.h says; with a dense one a thread owns columns. Then sums become scores where they are, and what may be
// among the best k leaves them as keys (rank_key.h): columns of score 0 are counted, not selected, so that their crowd
// meets no atomic.
#include "ops/product_topk.h"

#include <algorithm>
#include <type_traits>

#include "cuda/product_rows.h"
#include "cuda/rank_finish.h"
#include "cuda/rank_lists.h"
#include "ops/product_topk_dense.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = kProductThreads, kWarps = kProductWarps;
constexpr int kMostColumns = 16384;
constexpr int64_t kBufferBytes = int64_t{512} << 20;        // of lists of keys that are alive at once
constexpr uint64_t kZeroKey = uint64_t{0x80000000u} << 32;  // no key of a score of 0 or more is below it

// What a sum starts from: 0, or NaN, which stays one and is never given, where the column is no candidate.
struct Blank {
  const float* data;  // null: all are candidates
  __device__ float at(int64_t column) const { return data == nullptr ? 0.0f : data[column]; }
};

__global__ void __launch_bounds__(kThreads) product_blank_kernel(float* blank, IdRow candidates, int64_t n_cols) {
  const int64_t c = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (c < n_cols) blank[c] = candidates.contains(static_cast<int32_t>(c)) ? 0.0f : NAN;
}

using SparseSide = SparseRows<float>;

// The same with dense rows on the right: a thread sums four columns at a time.
struct DenseSide {
  Csr a;
  Rows<const float> b;

  __device__ void sum(Shared<float> sums, int64_t row, const Panel& panel, const Blank& blank) const {
    constexpr int kEach = 4;
    const int64_t begin = a.row_ptr[row], end = a.row_ptr[row + 1];
    for (int base = static_cast<int>(threadIdx.x); base < panel.width; base += kEach * kThreads) {
      float own[kEach];
#pragma unroll
      for (int u = 0; u < kEach; ++u) {
        own[u] = base + u * kThreads < panel.width ? blank.at(panel.first + base + u * kThreads) : 0.0f;
      }
      for (int64_t e = begin; e < end; ++e) {
        const float value = a.values == nullptr ? 1.0f : a.values[e];
        const float* from = b.row(a.col_idx[e]) + panel.first + base;
#pragma unroll
        for (int u = 0; u < kEach; ++u) {
          if (base + u * kThreads < panel.width) own[u] += value * from[u * kThreads];
        }
      }
#pragma unroll
      for (int u = 0; u < kEach; ++u) {
        if (base + u * kThreads < panel.width) sums[base + u * kThreads] = own[u];
      }
    }
  }
};

// How sums become scores, and which are wanted.
struct Wanted {
  ProductNorms norms;
  Blank blank;
  bool only_touched;

  __device__ float score(float sum, float row_norm, int64_t column) const {
    if (norms.mode == ProductNorms::kNone || sum != sum) return sum;
    const float col_norm = norms.col[column];
    const float below =
        (norms.mode == ProductNorms::kProduct ? row_norm * col_norm : row_norm + col_norm - sum) + norms.shrinkage;
    return below > 0.0f ? sum / below : 0.0f;
  }
};

// Adds the first `wanted` columns of score 0 to keys[size]; returns the new size. All threads of the block call.
__device__ uint32_t add_zeros(uint64_t* keys, uint32_t size, uint32_t wanted, Shared<float> scores, const Panel& panel,
                              Shared<uint32_t> scratch) {
  const int thread = static_cast<int>(threadIdx.x);
  for (int base = 0; base < panel.width && wanted > 0; base += kThreads) {
    bool zero = false;
    if (base + thread < panel.width) zero = static_cast<float>(scores[base + thread]) == 0.0f;
    const uint32_t place = Block::scan<uint32_t>(zero ? 1u : 0u, scratch);
    if (zero && place <= wanted) {
      keys[size + place - 1] = rank_key(0.0f, static_cast<int32_t>(panel.first + base + thread));
    }
    const uint32_t found = min(wanted, static_cast<uint32_t>(__syncthreads_count(zero ? 1 : 0)));
    size += found;
    wanted -= found;
  }
  return size;
}

// Keeps those of keys[size] that reach the bound; returns their number. Writes never overtake reads.
__device__ uint32_t keep_best(uint64_t* keys, uint32_t size, uint64_t bound, Shared<uint32_t> scratch) {
  uint32_t n = 0;
  for (uint32_t base = 0; base < size; base += kThreads) {
    const uint64_t key = base + threadIdx.x < size ? keys[base + threadIdx.x] : 0;
    const bool kept = key != 0 && key >= bound;
    const uint32_t place = Block::scan<uint32_t>(kept ? 1u : 0u, scratch);
    if (kept) keys[n + place - 1] = key;
    n += static_cast<uint32_t>(__syncthreads_count(kept ? 1 : 0));
  }
  return n;
}

// A panel of the batch's row blockIdx.x: its list (batch.keys), that of the panels before, becomes that of all so far.
// Dynamic shared memory for the panel's columns.
template <class Side>
__global__ void __launch_bounds__(kThreads, 3)
    product_topk_kernel(RankBatch batch, Side side, Wanted wanted, Panel panel) {
  RF_DYNAMIC_SHARED(float, scores);
  RF_SHARED(uint32_t, bins, kKeyBins);
  RF_SHARED(uint32_t, scratch, kWarps);
  RF_SHARED(uint32_t, found, 1);
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t row = batch.first + blockIdx.x;
  uint64_t* keys = batch.keys + int64_t{blockIdx.x} * batch.capacity;
  const auto k = static_cast<uint32_t>(batch.task.k);
  uint32_t size = panel.first == 0 ? 0 : batch.sizes[blockIdx.x];

  side.sum(scores, row, panel, wanted.blank);
  __syncthreads();
  const IdRow seen = batch.task.seen(row);
  const int64_t seen_from = first_above(seen.n, [&](int64_t i) { return seen.ids[i] >= panel.first; });
  for (int64_t i = seen_from + thread; i < seen.n && seen.ids[i] < panel.first + panel.width; i += kThreads) {
    scores[seen.ids[i] - panel.first] = NAN;
  }
  __syncthreads();

  const float row_norm = wanted.norms.mode == ProductNorms::kNone ? 0.0f : wanted.norms.row[row];
  uint32_t n_others = 0, n_above = 0;  // scores other than 0, and those above
  for (int c = thread; c < panel.width; c += kThreads) {
    const float score = wanted.score(scores[c], row_norm, panel.first + c);
    scores[c] = score;
    n_others += score < 0.0f || score > 0.0f ? 1u : 0u;
    n_above += score > 0.0f ? 1u : 0u;
  }
  n_others = Block::sum(n_others, scratch);
  if (!wanted.only_touched) {
    for (uint32_t i = threadIdx.x; i < size; i += kThreads) n_above += keys[i] >= kZeroKey ? 1u : 0u;
    n_above = Block::sum(n_above, scratch);  // and the columns of score 0 that are known, which come before the panel's
    if (n_above < k) size = add_zeros(keys, size, k - n_above, scores, panel, scratch);
  }
  __syncthreads();  // the keys are there

  const auto each_other = [&](auto&& use) {
    for (int c = thread; c < panel.width; c += kThreads) {
      const float score = scores[c];
      if (score < 0.0f || score > 0.0f) use(rank_key(score, static_cast<int32_t>(panel.first + c)));
    }
  };
  uint64_t bound = 0;
  if (size + n_others > k + batch.slack) {
    bound = reached_by(BlockTeam{}, bins, k, batch.slack, [&](auto&& use) {
      for (uint32_t i = threadIdx.x; i < size; i += kThreads) use(keys[i]);
      each_other(use);
    });
    __syncthreads();
    size = keep_best(keys, size, bound, scratch);
  }
  if (thread == 0) found[0] = size;
  __syncthreads();
  each_other([&](uint64_t key) {
    if (key >= bound) keys[atomicAdd(&found[0], 1u)] = key;
  });
  __syncthreads();
  if (thread == 0) batch.sizes[blockIdx.x] = found[0];
}

// Ranks all rows. prepare(panel) makes the side that a panel's sums come from.
template <class Prepare>
void rank_products(const ListSink& lists, int64_t n_cols, const Eligible& eligible, const ProductNorms& norms,
                   bool only_touched, const Prepare& prepare, Stream stream) {
  if (lists.ids.n == 0 || lists.ids.d == 0) return;
  if (n_cols == 0) return empty_lists(lists, stream);
  const int64_t k = std::min(lists.ids.d, n_cols);
  DeviceBuffer<float> blank(eligible.candidates == nullptr ? 0 : n_cols, stream);
  if (eligible.candidates != nullptr) {
    launch(product_blank_kernel, dim3(blocks_for(n_cols, kThreads)), dim3(kThreads), 0, stream, blank.data(),
           IdRow{eligible.candidates, eligible.n_candidates}, n_cols);
  }
  const Wanted wanted{norms, {blank.data()}, only_touched};

  RankBatch batch = {};
  batch.task.eligible = eligible;
  batch.task.k = k;
  batch.n_splits = 1;
  batch.slack = static_cast<uint32_t>(k / 8 + 4);
  batch.capacity = (2 * k + batch.slack + 15) / 16 * 16;  // a whole list and k columns of score 0
  for (batch.sorted_size = 1; batch.sorted_size < static_cast<uint64_t>(k) + batch.slack;) batch.sorted_size *= 2;
  const int64_t n_rows = std::min(lists.ids.n, std::max<int64_t>(kBufferBytes / (8 * batch.capacity), 64));
  DeviceBuffer<uint64_t> keys(n_rows * batch.capacity, stream);
  DeviceBuffer<uint64_t> room(batch.sorted_size > kMostSharedKeys ? n_rows * batch.sorted_size : 0, stream);
  DeviceBuffer<uint32_t> sizes(n_rows, stream);
  batch.keys = keys.data();
  batch.room = room.data();
  batch.sizes = sizes.data();

  Panel panel = first_panel(n_cols, kMostColumns);
  const int width = panel.width;
  for (batch.first = 0; batch.first < lists.ids.n; batch.first += n_rows) {
    batch.n = std::min(n_rows, lists.ids.n - batch.first);
    for (panel.first = 0; panel.first < n_cols; panel.first += width) {
      panel.width = static_cast<int>(std::min<int64_t>(width, n_cols - panel.first));
      const auto side = prepare(panel);
      launch(product_topk_kernel<std::remove_const_t<decltype(side)>>, dim3(static_cast<unsigned>(batch.n)),
             dim3(kThreads), static_cast<size_t>(panel.width) * sizeof(float), stream, batch, side, wanted, panel);
    }
    finish_batch(batch, lists, stream);
  }
}

}  // namespace

template <>
void product_topk<Cuda>(Rows<int32_t> ids, Rows<float> scores, Csr a, Csr b, const Eligible& eligible,
                        const ProductNorms& norms, bool only_touched, int) {
  const Stream stream = current_stream();
  DeviceBuffer<int64_t> splits(b.n_rows * (kWarps + 1), stream);
  const auto prepare = [&](const Panel& panel) {
    product_splits(splits.data(), b, panel, stream);
    return SparseSide{a, b, splits.data()};
  };
  rank_products({ids, scores}, b.n_cols, eligible, norms, only_touched, prepare, stream);
}

template <>
void product_topk_dense<Cuda>(Rows<int32_t> ids, Rows<float> scores, const Csr& a, Rows<const float> b,
                              const Eligible& eligible, int) {
  const ProductNorms norms{ProductNorms::kNone, nullptr, nullptr, 0.0f};
  rank_products(
      {ids, scores}, b.d, eligible, norms, false, [&](const Panel&) { return DenseSide{a, b}; }, current_stream());
}

}  // namespace recsys_fast
