#include "ops/product_topk.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "core/thread_pool.h"
#include "cpu/id_row.h"
#include "cpu/product_select.h"
#include "cpu/product_sums.h"

namespace recsys_fast {
namespace {

constexpr float kNever = std::numeric_limits<float>::quiet_NaN();  // a sum that stays one, and passes no comparison
constexpr int64_t kChunkWork = int64_t{1} << 22;

struct Problem {
  const Csr& a;
  const ProductPlan& plan;
  const Eligible& eligible;
  const ProductNorms& norms;
  const float* col_norms;  // by place, readable to whole vectors
  const float* blank;      // by place: 0, or kNever where the column is no candidate; null: all are
  int64_t n_cols;
  bool only_touched;
};

// One thread's scratch, and what is done to a row. Between rows all sums are 0 (or blank).
template <ProductNorms::Mode M>
class RowWorker {
 public:
  RowWorker(const Problem& problem, int64_t k)
      : problem_(problem),
        n_(padded(problem.n_cols)),
        arena_(room(n_, k)),
        sums_(arena_.take<float>(static_cast<size_t>(n_))),
        packed_{arena_.take<float>(static_cast<size_t>(n_ + kLanes)),
                arena_.take<int32_t>(static_cast<size_t>(n_ + kLanes)), 0},
        selection_(arena_, k, problem.plan) {
    if (problem_.blank == nullptr) {
      std::fill(sums_, sums_ + n_, 0.0f);
    } else {
      std::copy(problem_.blank, problem_.blank + n_, sums_);
    }
  }

  void run(int64_t r, int32_t* ids, float* scores, int64_t k) {
    const Csr& a = problem_.a;
    const int64_t begin = a.row_ptr[r];
    sum_and_pack(r, {a.col_idx + begin, a.values == nullptr ? nullptr : a.values + begin, a.row_size(r)});
    row_norm_ = broadcast(M == ProductNorms::kNone ? 0.0f : problem_.norms.row[r]);
    selection_.start();
    for (int64_t j = 0; j < packed_.n; j += kLanes) {
      const int64_t n_left = std::min<int64_t>(kLanes, packed_.n - j);
      const VecInt place = load_first(packed_.places + j, n_left);
      selection_.offer(score(load(packed_.sums + j), place), place, first_lanes(n_left));
    }
    int64_t n = selection_.finish(ids, scores);
    if (!problem_.only_touched) n = add_zeros(r, ids, scores, n, k);
    std::fill(ids + n, ids + k, -1);
    std::fill(scores + n, scores + k, kNoScore);
  }

 private:
  static Arena& room(int64_t n, int64_t k) {
    const size_t size = static_cast<size_t>(n + kLanes);
    Arena& arena = thread_arena();
    arena.reset(2 * Arena::padded<float>(size) + Arena::padded<int32_t>(size) + ProductSelection::bytes_for(k));
    return arena;
  }

  void sum_and_pack(int64_t r, const ProductRow& row) {
    const ProductPlan& plan = problem_.plan;
    const bool listed = 4 * work_of(row, plan.tail, problem_.n_cols / 4) < problem_.n_cols - plan.n_head;
    sum_head(sums_, row, plan);
    if (plan.n_head != 0 && problem_.blank != nullptr) {
      for (int64_t j = 0; j < plan.n_head; j += kLanes) store(sums_ + j, load(sums_ + j) + load(problem_.blank + j));
    }
    packed_.n = 0;
    if (listed) {
      int32_t* touched = packed_.places + plan.n_head;
      const int64_t n_touched = sum_lists(sums_, row, plan.tail, touched);
      drop_seen(r);
      pack_range(packed_, sums_, problem_.blank, 0, plan.n_head);
      pack_touched(packed_, sums_, touched, n_touched);
    } else {
      sum_lists(sums_, row, plan.tail);
      drop_seen(r);
      pack_range(packed_, sums_, problem_.blank, 0, n_);
    }
  }

  // Multiply-adds of a row, or `most` where they are more.
  static int64_t work_of(const ProductRow& row, const Csr& lists, int64_t most) {
    int64_t work = 0;
    for (int64_t p = 0; p < row.n && work < most; ++p) work += lists.row_size(row.cols[p]);
    return work;
  }

  template <class Visit>
  void each_seen(int64_t r, Visit&& visit) {
    const Eligible& eligible = problem_.eligible;
    if (eligible.seen_row_ptr == nullptr) return;
    for (int64_t p = eligible.seen_row_ptr[r]; p < eligible.seen_row_ptr[r + 1]; ++p) {
      visit(problem_.plan.place(eligible.seen_col_idx[p]));
    }
  }

  float blank(int64_t place) const { return problem_.blank == nullptr ? 0.0f : problem_.blank[place]; }

  void drop_seen(int64_t r) {
    each_seen(r, [&](int64_t place) { sums_[place] = blank(place); });
  }

  RF_INLINE Vec score(Vec sum, VecInt place) const {
    const Vec col_norm = M == ProductNorms::kNone ? sum : gather(problem_.col_norms, place);
    return product_score<M>(sum, row_norm_, col_norm, broadcast(problem_.norms.shrinkage));
  }

  // Puts columns of score 0 between the positive and the negative scores. Returns the length of the list.
  int64_t add_zeros(int64_t r, int32_t* ids, float* scores, int64_t n, int64_t k) {
    int64_t n_positive = 0, n_zeros = 0;
    while (n_positive < n && scores[n_positive] > 0.0f) ++n_positive;
    if (n_positive == k) return n;
    const auto mark = [&](bool set) {
      for (int64_t j = 0; j < packed_.n; ++j) {
        const int32_t place = packed_.places[j];
        if (score(broadcast(packed_.sums[j]), VecInt{} + place)[0] != 0.0f) sums_[place] = set ? kNever : 0.0f;
      }
      each_seen(r, [&](int64_t place) { sums_[place] = set ? kNever : blank(place); });
    };
    mark(true);
    int32_t* zeros = selection_.scratch();
    for (int64_t c = 0; c < problem_.n_cols && n_positive + n_zeros < k; ++c) {
      if (sums_[problem_.plan.place(c)] == 0.0f) zeros[n_zeros++] = static_cast<int32_t>(c);
    }
    mark(false);
    const int64_t length = std::min(k, n + n_zeros);
    for (int64_t j = length - 1; j >= n_positive + n_zeros; --j) {
      ids[j] = ids[j - n_zeros];
      scores[j] = scores[j - n_zeros];
    }
    std::copy(zeros, zeros + n_zeros, ids + n_positive);
    std::fill(scores + n_positive, scores + n_positive + n_zeros, 0.0f);
    return length;
  }

  const Problem& problem_;
  int64_t n_;
  Arena& arena_;
  float* sums_;
  PackedSums packed_;
  ProductSelection selection_;
  Vec row_norm_ = {};
};

template <ProductNorms::Mode M>
void run_rows(const Problem& problem, Rows<int32_t> ids, Rows<float> scores, int n_threads) {
  const int64_t m = ids.n, k = std::min(ids.d, problem.n_cols);
  const int64_t row_work = problem.plan.work / m + problem.n_cols / 4 + 16 * k;
  const int64_t grain = std::clamp<int64_t>(kChunkWork / row_work, 1, 1 << 14);
  parallel_for(m, grain, n_threads, [&](int64_t begin, int64_t end, int) {
    RowWorker<M> worker(problem, k);
    for (int64_t r = begin; r < end; ++r) {
      worker.run(r, ids.row(r), scores.row(r), k);
      std::fill(ids.row(r) + k, ids.row(r + 1), -1);
      std::fill(scores.row(r) + k, scores.row(r + 1), kNoScore);
    }
  });
}

}  // namespace

template <>
void product_topk<Cpu>(Rows<int32_t> ids, Rows<float> scores, Csr a, Csr b, const Eligible& eligible,
                       const ProductNorms& norms, bool only_touched, int n_threads) {
  if (ids.n == 0 || ids.d == 0) return;
  if (b.n_cols == 0) {
    std::fill(ids.data, ids.row(ids.n), -1);
    std::fill(scores.data, scores.row(scores.n), kNoScore);
    return;
  }
  const ProductPlan plan(a, b, n_threads);
  std::vector<float> col_norms, blank;
  if (norms.mode != ProductNorms::kNone) {
    col_norms.resize(static_cast<size_t>(padded(b.n_cols)));
    for (int64_t c = 0; c < b.n_cols; ++c) col_norms[plan.place(c)] = norms.col[c];
  }
  if (eligible.candidates != nullptr) {
    blank.assign(static_cast<size_t>(padded(b.n_cols)), kNever);
    for (int64_t j = 0; j < eligible.n_candidates; ++j) blank[plan.place(eligible.candidates[j])] = 0.0f;
  }
  const Problem problem{
      a, plan, eligible, norms, col_norms.data(), blank.empty() ? nullptr : blank.data(), b.n_cols, only_touched};
  switch (norms.mode) {
    case ProductNorms::kNone:
      return run_rows<ProductNorms::kNone>(problem, ids, scores, n_threads);
    case ProductNorms::kProduct:
      return run_rows<ProductNorms::kProduct>(problem, ids, scores, n_threads);
    case ProductNorms::kUnion:
      return run_rows<ProductNorms::kUnion>(problem, ids, scores, n_threads);
  }
}

}  // namespace recsys_fast
