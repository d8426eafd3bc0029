#include "cuda/sgd_stage.h"

#include <algorithm>

#include "cuda/reduce.h"
#include "cuda/sgd_sampler.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256;
constexpr uint32_t kBlocksPerVisit = 1024;  // of random words: 4096 words
constexpr int64_t kSumTile = 4096;          // visits that one block adds up

__device__ __forceinline__ int64_t entry_of(const SgdOrder& o, int64_t visit) {
  return o.entry_of != nullptr ? o.entry_of[visit] : visit;
}

// The user's items in the cell of entry p: a run of equal users around it, whose ends are found by strides that double,
// since runs are short.
__device__ IdRow run_of(const SgdProblem& problem, const SgdOrder& o, int64_t p) {
  const int32_t user = o.users[p];
  if (o.n_blocks == 1) {
    const int64_t begin = problem.data.row_ptr[user];
    return {o.items + begin, problem.data.row_ptr[user + 1] - begin};
  }
  const int user_block = o.user_block[user];
  const int round = (o.item_block[o.items[p]] + o.n_blocks - user_block) % o.n_blocks;
  const int64_t first = o.cell_begin[round * o.n_blocks + user_block];
  const int64_t last = o.cell_begin[round * o.n_blocks + user_block + 1];
  int64_t below = p, above = p, stride = 1;
  for (; below - stride >= first && o.users[below - stride] == user; stride *= 2) below -= stride;
  int64_t reach = min(stride, below - first);  // the run begins in (below - reach, below], or at first
  const int64_t low = below - reach;
  below = low + first_above(reach, [&](int64_t t) { return o.users[low + t] >= user; });
  for (stride = 1; above + stride < last && o.users[above + stride] == user; stride *= 2) above += stride;
  reach = min(stride, last - above);
  above += first_above(reach, [&](int64_t t) { return o.users[above + t] > user; });
  return {o.items + below, above - below};
}

// A thread per visit of a piece (blockIdx.y): thousands of draws hide each other's searches.
__global__ void __launch_bounds__(kThreads, 4) draw_kernel(SgdStageView s, SgdProblem problem, SgdOrder o) {
  const SgdPiece piece = s.pieces[blockIdx.y];
  const int64_t at = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (at >= piece.end - piece.begin) return;
  const int64_t visit = piece.begin + at, p = entry_of(o, visit);
  int32_t* items = s.items + (piece.local + at) * s.m;
  const int32_t positive = o.items[p];
  items[0] = positive;
  if (s.m == 1) return;
  SgdBlock block{nullptr, problem.data.n_cols, o.sums, o.cdf};
  if (o.n_blocks > 1) {
    const int64_t begin = o.item_begin[o.item_block[positive]];
    block = {o.members + begin, o.item_begin[o.item_block[positive] + 1] - begin,
             o.sums != nullptr ? o.sums + begin : nullptr, o.cdf};
  }
  const int64_t e = o.entries != nullptr ? o.entries[p] : p;
  // A user that is folded in draws the same whoever else is.
  const int64_t sample = problem.frozen == SgdFrozen::kItems ? e - problem.data.row_ptr[o.users[p]] : e;
  const auto number = static_cast<uint32_t>(o.first_visit != nullptr ? visit - o.first_visit[p] : 0);
  SgdWords words(problem.seed, problem.epoch, static_cast<uint64_t>(sample), number * kBlocksPerVisit);
  const SgdSampler sampler(block);
  const IdRow seen = run_of(problem, o, p);
  for (int k = 1; k < s.m; ++k) {
    items[k] = sampler.draw(seen, words);
    if (items[k] >= 0) continue;
    items[0] = -1;
    return;
  }
}

// Levels of a piece's visits, then its samples by level. The first part is a chain, one step a visit, that one thread
// walks, at about the latency of L1 (marks: (n_items) per piece, zeros; one more than the level of an item's last
// visit); all pieces of a stage run at the same time. The rest is a counting sort in which visits of one level may
// come in any order.
__global__ void __launch_bounds__(kThreads, 2)
    levels_kernel(SgdStageView s, int32_t* marks, int32_t* levels, SgdProblem problem, SgdOrder o) {
  RF_SHARED(int32_t, scratch, kThreads / kWarpSize);
  RF_SHARED(int32_t, n_levels, 1);
  const SgdPiece piece = s.pieces[blockIdx.x];
  const int64_t n = piece.end - piece.begin;
  const int32_t* items = s.items + piece.local * s.m;
  int32_t* level = levels + piece.local;
  int32_t* count = s.level_end + piece.local;
  if (threadIdx.x == 0) {
    int32_t* mark = marks + blockIdx.x * problem.data.n_cols;
    int32_t user = -1, of_user = 0, highest = 0;
    for (int64_t v = 0; v < n; ++v) {
      const int32_t* item = items + v * s.m;
      const int32_t own = o.users[entry_of(o, piece.begin + v)];
      int32_t next = own == user ? of_user : 0;  // a cell's users come one after the other
      if (item[0] >= 0) {
        for (int k = 0; k < s.m; ++k) next = max(next, mark[item[k]]);
        for (int k = 0; k < s.m; ++k) mark[item[k]] = next + 1;
        user = own;
        of_user = next + 1;
      } else {
        next = 0;  // a visit without a step meets nobody
      }
      level[v] = next;
      highest = max(highest, next + 1);
      atomicAdd(&count[next], 1);
    }
    n_levels[0] = highest;
    s.n_levels[blockIdx.x] = highest;
  }
  __syncthreads();
  const int32_t highest = n_levels[0];
  int32_t before = 0;
  for (int32_t first = 0; first < highest; first += kThreads) {
    const int32_t l = first + static_cast<int32_t>(threadIdx.x), own = l < highest ? count[l] : 0;
    const int32_t sum = Block::scan(own, scratch);
    if (l < highest) count[l] = before + sum - own;
    before += Block::sum(own, scratch);
  }
  __syncthreads();
  for (int64_t v = threadIdx.x; v < n; v += kThreads) {
    const int64_t at = piece.local + atomicAdd(&count[level[v]], 1);  // in the end: where the level ends
    const int64_t p = entry_of(o, piece.begin + v), e = o.entries != nullptr ? o.entries[p] : p;
    s.samples[at] = {piece.local + v, o.users[p], problem.data.values != nullptr ? problem.data.values[e] : 1.0f};
    for (int k = 0; k < s.m; ++k) s.sample_items[at * s.m + k] = items[v * s.m + k];
  }
}

struct PartialTotals {
  double loss;
  int64_t n_skipped;
};

__global__ void __launch_bounds__(kThreads) totals_kernel(PartialTotals* out, SgdStageView s, int64_t n) {
  RF_SHARED(double, loss_scratch, kThreads / kWarpSize);
  RF_SHARED(int64_t, skipped_scratch, kThreads / kWarpSize);
  double loss = 0.0;
  int64_t n_skipped = 0;
  const int64_t end = min(n, (blockIdx.x + 1) * kSumTile);
  for (int64_t v = blockIdx.x * kSumTile + threadIdx.x; v < end; v += kThreads) {
    if (s.items[v * s.m] < 0) {
      ++n_skipped;
    } else {
      loss += s.losses[v];
    }
  }
  loss = Block::sum(loss, loss_scratch);
  n_skipped = Block::sum(n_skipped, skipped_scratch);
  if (threadIdx.x == 0) out[blockIdx.x] = {loss, n_skipped};
}

}  // namespace

int64_t SgdStage::bytes(int m, bool in_levels, bool scratch) {
  const int64_t slot = sizeof(int32_t);
  return m * slot * (1 + (in_levels ? 1 : 0) + (scratch ? 2 : 0)) + slot +
         (in_levels ? 2 * slot + static_cast<int64_t>(sizeof(SgdSample)) : 0);
}

SgdStage::SgdStage(const SgdProblem& problem, const SgdPlan& plan, const std::vector<SgdPiece>& pieces, int m,
                   bool in_levels, bool scratch, Stream stream)
    : n_(pieces.back().local + pieces.back().end - pieces.back().begin),
      n_pieces_(static_cast<int64_t>(pieces.size())),
      longest_(0),
      pieces_(n_pieces_, stream),
      items_(n_ * m, stream),
      sample_items_(in_levels ? n_ * m : 0, stream),
      level_end_(in_levels ? n_ : 0, stream),
      n_levels_(in_levels ? n_pieces_ : 0, stream),
      steps_(scratch ? n_ * m : 0, stream),
      samples_(in_levels ? n_ : 0, stream),
      coefficients_(scratch ? n_ * m : 0, stream),
      losses_(n_, stream) {
  for (const SgdPiece& piece : pieces) longest_ = std::max(longest_, piece.end - piece.begin);
  copy_to_device(pieces_.data(), pieces.data(), n_pieces_, stream);
  view_ = {m,
           pieces_.data(),
           items_.data(),
           samples_.data(),
           sample_items_.data(),
           level_end_.data(),
           n_levels_.data(),
           coefficients_.data(),
           steps_.data(),
           losses_.data()};
  if (n_ == 0) return;
  launch(draw_kernel, dim3(blocks_for(longest_, kThreads), static_cast<unsigned>(n_pieces_)), dim3(kThreads), 0, stream,
         view_, problem, plan.order());
  if (!in_levels) return;
  DeviceBuffer<int32_t> marks(n_pieces_ * problem.data.n_cols, stream), levels(n_, stream);
  fill_zero(marks.data(), marks.size(), stream);
  fill_zero(level_end_.data(), n_, stream);
  launch(levels_kernel, dim3(static_cast<unsigned>(n_pieces_)), dim3(kThreads), 0, stream, view_, marks.data(),
         levels.data(), problem, plan.order());
}

SgdTotals SgdStage::totals(int64_t per_visit, Stream stream) const {
  SgdTotals sum;
  if (n_ == 0) return sum;
  std::vector<PartialTotals> parts(static_cast<size_t>((n_ + kSumTile - 1) / kSumTile));
  const auto n_parts = static_cast<int64_t>(parts.size());
  DeviceBuffer<PartialTotals> out(n_parts, stream);
  launch(totals_kernel, dim3(static_cast<unsigned>(n_parts)), dim3(kThreads), 0, stream, out.data(), view_, n_);
  copy_to_host(parts.data(), out.data(), n_parts, stream);
  for (const PartialTotals& part : parts) {
    sum.loss += part.loss;
    sum.n_skipped += part.n_skipped;
  }
  sum.n_trained = (n_ - sum.n_skipped) * per_visit;
  return sum;
}

}  // namespace recsys_fast
