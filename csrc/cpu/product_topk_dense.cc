// Where a has many entries, b goes by in panels of kWide columns: packed, a panel of 40,000 rows is 10 MB and stays in
// L3 while all rows of a gather from it, so that b is read from memory once. Few entries read b's rows where they lie.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/arena.h"
#include "core/simd.h"
#include "core/thread_pool.h"
#include "cpu/best_scores.h"
#include "cpu/id_row.h"
#include "ops/product_topk_dense.h"

namespace recsys_fast {
namespace {

constexpr int64_t kWide = 64, kVectors = kWide / kLanes;  // columns of a packed panel
constexpr int64_t kDirect = 1024;                         // columns that a row of a sums at once where b is not packed
constexpr int64_t kGroupBytes = int64_t{64} << 20;        // of the lists of rows that share a pass over b
constexpr int64_t kAhead = 8;                             // entries of a whose rows of b are asked for early

// The best columns of one row so far: the first `size` keys, thinned out when `capacity` is reached.
struct List {
  uint64_t* keys;
  int64_t size;
  float threshold;  // scores below it are not wanted
};

class Ranking {
 public:
  Ranking(Rows<int32_t> ids, Rows<float> scores, const Csr& a, Rows<const float> b, const Eligible& eligible)
      : ids_(ids), scores_(scores), a_(a), b_(b), eligible_(eligible), k_(std::min(ids.d, b.d)) {
    if (eligible.candidates == nullptr) return;
    allowed_.assign(static_cast<size_t>(b.d), 0);
    for (int64_t j = 0; j < eligible.n_candidates; ++j) allowed_[static_cast<size_t>(eligible.candidates[j])] = 1;
  }

  void run(int n_threads) {
    const int64_t m = ids_.n;
    capacity_ = k_ + std::max<int64_t>(k_, kWide);
    const int64_t group = std::clamp<int64_t>(kGroupBytes / (8 * capacity_), 1, std::max<int64_t>(m, 1));
    std::vector<uint64_t> keys(static_cast<size_t>(group * capacity_));
    std::vector<List> lists(static_cast<size_t>(group));
    for (int64_t first = 0; first < m; first += group) {
      const int64_t n = std::min(group, m - first);
      for (int64_t i = 0; i < n; ++i) lists[static_cast<size_t>(i)] = {keys.data() + i * capacity_, 0, kNoScore};
      const bool few = a_.row_ptr[first + n] - a_.row_ptr[first] < 2 * b_.n;
      if (few) {
        parallel_for(n, 1, n_threads, [&](int64_t begin, int64_t end, int) {
          for (int64_t i = begin; i < end; ++i) sum_directly(first + i, lists[static_cast<size_t>(i)]);
        });
      } else {
        sum_in_panels(first, n, lists.data(), n_threads);
      }
      parallel_for(n, 64, n_threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) write(first + i, lists[static_cast<size_t>(i)]);
      });
    }
  }

 private:
  float value(int64_t entry) const { return a_.values == nullptr ? 1.0f : a_.values[entry]; }

  void sum_in_panels(int64_t first, int64_t n, List* lists, int n_threads) {
    std::vector<uint8_t> used(static_cast<size_t>(b_.n), 0);
    for (int64_t e = a_.row_ptr[first]; e < a_.row_ptr[first + n]; ++e) used[static_cast<size_t>(a_.col_idx[e])] = 1;
    Arena memory;
    memory.reset(Arena::padded<float>(static_cast<size_t>(b_.n * kWide)));
    float* panel = memory.take<float>(static_cast<size_t>(b_.n * kWide));
    for (int64_t column = 0; column < b_.d; column += kWide) {
      const int64_t width = std::min(kWide, b_.d - column);
      if (!any_allowed(column, width)) continue;
      parallel_for(b_.n, 512, n_threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) {
          if (used[static_cast<size_t>(i)] == 0) continue;
          if (i + kAhead < b_.n) prefetch(b_.row(i + kAhead) + column, kWide * static_cast<int64_t>(sizeof(float)));
          std::copy_n(b_.row(i) + column, width, panel + i * kWide);
          std::fill(panel + i * kWide + width, panel + (i + 1) * kWide, 0.0f);
        }
      });
      parallel_for(n, 64, n_threads, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin; i < end; ++i) sum_panel(first + i, panel, column, width, lists[i]);
      });
    }
  }

  void sum_panel(int64_t row, const float* panel, int64_t column, int64_t width, List& list) {
    const int64_t begin = a_.row_ptr[row], end = a_.row_ptr[row + 1];
    Vec sum[kVectors] = {};
    for (int64_t e = begin; e < end; ++e) {
      if (e + kAhead < end) {
        prefetch(panel + a_.col_idx[e + kAhead] * kWide, kWide * static_cast<int64_t>(sizeof(float)));
      }
      const float* from = panel + a_.col_idx[e] * kWide;
      const Vec left = broadcast(value(e));
#pragma GCC unroll 16
      for (int v = 0; v < kVectors; ++v) sum[v] += left * load(from + v * kLanes);
    }
    const Vec least = broadcast(list.threshold);
    uint64_t passing = 0;
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) passing |= uint64_t{mask_ge(sum[v], least)} << (v * kLanes);
    if (width < kWide) passing &= (uint64_t{1} << width) - 1;
    if (passing == 0) return;
    float scores[kWide];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) store(scores + v * kLanes, sum[v]);
    offer(row, list, scores, column, passing);
  }

  void sum_directly(int64_t row, List& list) {
    alignas(64) float sums[kDirect];
    for (int64_t column = 0; column < b_.d; column += kDirect) {
      const int64_t width = std::min(kDirect, b_.d - column);
      if (!any_allowed(column, width)) continue;
      std::fill_n(sums, kDirect, 0.0f);
      for (int64_t e = a_.row_ptr[row]; e < a_.row_ptr[row + 1]; ++e) {
        axpy(sums, value(e), b_.row(a_.col_idx[e]) + column, width);
      }
      for (int64_t at = 0; at < width; at += kWide) {
        const Vec least = broadcast(list.threshold);
        uint64_t passing = 0;
        for (int v = 0; v < kVectors; ++v) {
          passing |= uint64_t{mask_ge(load(sums + at + v * kLanes), least)} << (v * kLanes);
        }
        if (width - at < kWide) passing &= (uint64_t{1} << (width - at)) - 1;
        if (passing != 0) offer(row, list, sums + at, column + at, passing);
      }
    }
  }

  void offer(int64_t row, List& list, const float* scores, int64_t column, uint64_t passing) const {
    const IdRow seen = seen_row(row);
    for (; passing != 0; passing &= passing - 1) {
      const int j = __builtin_ctzll(passing);
      const auto id = static_cast<int32_t>(column + j);
      if (scores[j] < list.threshold || (!allowed_.empty() && allowed_[static_cast<size_t>(id)] == 0)) continue;
      if (seen.contains(id)) continue;
      list.keys[list.size++] = sort_key(scores[j], id);
      if (list.size == capacity_) thin_out(list);
    }
  }

  // Columns come in ascending order, so that one that only equals the k-th score has lost already.
  void thin_out(List& list) const {
    std::nth_element(list.keys, list.keys + k_ - 1, list.keys + list.size);
    list.size = k_;
    list.threshold = std::nextafter(key_score(list.keys[k_ - 1]), std::numeric_limits<float>::infinity());
  }

  void write(int64_t row, List& list) {
    std::sort(list.keys, list.keys + list.size);
    int32_t* ids = ids_.row(row);
    float* scores = scores_.row(row);
    const int64_t n = std::min(list.size, k_);
    for (int64_t j = 0; j < n; ++j) {
      ids[j] = static_cast<int32_t>(list.keys[j]);
      scores[j] = key_score(list.keys[j]);
    }
    std::fill(ids + n, ids + ids_.d, -1);
    std::fill(scores + n, scores + ids_.d, kNoScore);
  }

  IdRow seen_row(int64_t row) const {
    if (eligible_.seen_row_ptr == nullptr) return {};
    const int64_t begin = eligible_.seen_row_ptr[row];
    return {eligible_.seen_col_idx + begin, eligible_.seen_row_ptr[row + 1] - begin};
  }

  bool any_allowed(int64_t column, int64_t width) const {
    if (allowed_.empty()) return true;
    const auto begin = allowed_.begin() + column;
    return std::find(begin, begin + width, 1) != begin + width;
  }

  Rows<int32_t> ids_;
  Rows<float> scores_;
  const Csr& a_;
  Rows<const float> b_;
  const Eligible& eligible_;
  int64_t k_, capacity_ = 0;
  std::vector<uint8_t> allowed_;  // empty: all
};

}  // namespace

template <>
void product_topk_dense<Cpu>(Rows<int32_t> ids, Rows<float> scores, const Csr& a, Rows<const float> b,
                             const Eligible& eligible, int n_threads) {
  if (ids.d == 0 || b.d == 0) {
    std::fill_n(ids.data, ids.n * ids.d, -1);
    std::fill_n(scores.data, ids.n * ids.d, kNoScore);
    return;
  }
  Ranking(ids, scores, a, b, eligible).run(n_threads);
}

}  // namespace recsys_fast
