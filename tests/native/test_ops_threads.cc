// Every operation on one thread and on several: the same bits, and nothing for the thread sanitizer to find.
#include <algorithm>
#include <cstring>
#include <set>

#include "check.h"
#include "ops/als.h"
#include "ops/csr.h"
#include "ops/gram.h"
#include "ops/negatives.h"
#include "ops/pair_scores.h"
#include "ops/rank_metrics.h"
#include "ops/topk.h"

namespace recsys_fast {
namespace {

constexpr int kThreads[] = {1, 2, 5};
constexpr int64_t kUsers = 3000, kItems = 1500, kWidth = 24;

// A random matrix with sorted rows of 0 to 40 entries and values in (0, 5].
struct Matrix {
  std::vector<int64_t> row_ptr{0};
  std::vector<int32_t> col_idx;
  std::vector<float> values;
  int64_t n_cols;

  Matrix(int64_t n_rows, int64_t columns, uint64_t seed) : n_cols(columns) {
    for (int64_t r = 0; r < n_rows; ++r) {
      const auto sample = static_cast<uint64_t>(r);
      std::set<int32_t> row;
      const uint32_t n = draw(seed, 0, sample, 0) % 41;
      for (uint32_t k = 1; k <= n; ++k) row.insert(to_range(draw(seed, 0, sample, k), static_cast<int32_t>(columns)));
      col_idx.insert(col_idx.end(), row.begin(), row.end());
      row_ptr.push_back(static_cast<int64_t>(col_idx.size()));
    }
    for (size_t i = 0; i < col_idx.size(); ++i) {
      values.push_back(0.5f * static_cast<float>(1 + draw(seed, 1, i, 0) % 10));
    }
  }
  int64_t nnz() const { return static_cast<int64_t>(col_idx.size()); }
  Csr view(bool with_values = true) const {
    return {row_ptr.data(), col_idx.data(), with_values ? values.data() : nullptr,
            static_cast<int64_t>(row_ptr.size()) - 1, n_cols};
  }
};

const Matrix& interactions() {
  static const Matrix matrix(kUsers, kItems, 11);
  return matrix;
}

const Matrix& held_out() {
  static const Matrix matrix(kUsers, kItems, 12);
  return matrix;
}

const std::vector<float>& user_table() {
  static const std::vector<float> table = test::uniform(kUsers * kWidth, 13);
  return table;
}

const std::vector<float>& item_table() {
  static const std::vector<float> table = test::uniform(kItems * kWidth, 14);
  return table;
}

Rows<const float> users() { return {user_table().data(), kUsers, kWidth}; }
Rows<const float> items() { return {item_table().data(), kItems, kWidth}; }

// Calls run(n_threads), which returns everything that it computed as one vector, for each number of threads.
template <class Run>
void check_same_bits(const Run& run) {
  const auto expected = run(kThreads[0]);
  for (const int n_threads : kThreads) {
    for (int round = 0; round < 3; ++round) {
      const auto got = run(n_threads);
      CHECK_AT(got.size() == expected.size(), n_threads);
      CHECK_AT(std::memcmp(got.data(), expected.data(), got.size() * sizeof(got[0])) == 0, n_threads);
    }
  }
}

std::vector<float> gram_of(Rows<const float> rows, int n_threads) {
  std::vector<float> out(static_cast<size_t>(rows.d * rows.d));
  gram<Cpu>(out.data(), rows, n_threads);
  return out;
}

RF_CASE(threads_gram_eigen_rotate) {
  check_same_bits([](int n_threads) {
    auto out = gram_of(users(), n_threads);
    std::vector<float> vectors(out.size()), values(kWidth), rotated = user_table();
    gram_eigen<Cpu>(vectors.data(), values.data(), out.data(), kWidth, n_threads);
    rows_rotate<Cpu>({rotated.data(), kUsers, kWidth}, vectors.data(), n_threads);
    out.insert(out.end(), vectors.begin(), vectors.end());
    out.insert(out.end(), values.begin(), values.end());
    out.insert(out.end(), rotated.begin(), rotated.end());
    return out;
  });
}

// x and y after a sweep over users in the eigenbasis of the items.
struct Bases {
  std::vector<float> x = user_table(), y = item_table(), spectrum = std::vector<float>(kWidth);
  Bases() {
    const auto product = gram_of(items(), 1);
    std::vector<float> q(product.size());
    gram_eigen<Cpu>(q.data(), spectrum.data(), product.data(), kWidth, 1);
    rows_rotate<Cpu>({x.data(), kUsers, kWidth}, q.data(), 1);
    rows_rotate<Cpu>({y.data(), kItems, kWidth}, q.data(), 1);
  }
};

RF_CASE(threads_als_sweep) {
  const Bases bases;
  for (const AlsSolver solver : {AlsSolver::kCholesky, AlsSolver::kCg, AlsSolver::kSubspace}) {
    for (const bool is_explicit : {false, true}) {
      const float* values = interactions().values.data();
      const AlsProblem problem{is_explicit ? nullptr : values,
                               is_explicit ? values : nullptr,
                               bases.spectrum.data(),
                               0.0f,
                               0.1f,
                               0.5f,
                               is_explicit ? 0.0f : 0.1f,
                               is_explicit};
      check_same_bits([&](int n_threads) {
        std::vector<float> x = bases.x;
        const double loss = als_sweep<Cpu>({x.data(), kUsers, kWidth}, {bases.y.data(), kItems, kWidth},
                                           interactions().view(!is_explicit), problem, solver, 2, 8, n_threads);
        CHECK(std::isfinite(loss));
        const double high = std::floor(loss * 0x1p-20);
        x.push_back(static_cast<float>(high));  // the loss in two pieces that a float holds
        x.push_back(static_cast<float>(loss - high * 0x1p20));
        return x;
      });
    }
  }
}

// Rows that name most columns, too long for a cache: groups of them, whose number goes by that of the threads.
RF_CASE(threads_als_long_rows) {
  constexpr int64_t n_rows = 60, n_columns = 1700, width = 120;
  std::vector<int64_t> row_ptr{0};
  std::vector<int32_t> col_idx;
  for (int64_t r = 0; r < n_rows; ++r) {
    for (int32_t c = 0; c < n_columns; ++c) {
      if (draw(17, 0, static_cast<uint64_t>(r * n_columns + c), 0) % 8 != 0) col_idx.push_back(c);
    }
    row_ptr.push_back(static_cast<int64_t>(col_idx.size()));
  }
  const auto y = test::uniform(n_columns * width, 18), weights = test::uniform(std::ssize(col_idx), 19);
  const std::vector<float> spectrum(width, 3.0f);
  const AlsProblem problem{weights.data(), nullptr, spectrum.data(), 1.0f, 0.1f, 1.0f, 0.1f, false};
  for (const AlsSolver solver : {AlsSolver::kCg, AlsSolver::kSubspace}) {
    check_same_bits([&](int n_threads) {
      std::vector<float> x(n_rows * width, 0.1f);
      const double loss = als_sweep<Cpu>({x.data(), n_rows, width}, {y.data(), n_columns, width},
                                         {row_ptr.data(), col_idx.data(), nullptr, n_rows, n_columns}, problem, solver,
                                         2, 8, n_threads);
      CHECK(std::isfinite(loss));
      std::vector<double> out(x.begin(), x.end());
      out.push_back(loss);
      return out;
    });
  }
}

RF_CASE(threads_als_loss) {
  const auto gram_x = gram_of(users(), 1), gram_y = gram_of(items(), 1);
  const AlsProblem problem{interactions().values.data(), nullptr, nullptr, 0.0f, 0.1f, 1.0f, 0.1f, false};
  std::vector<int64_t> counts(kItems);
  for (const int32_t c : interactions().col_idx) ++counts[static_cast<size_t>(c)];
  check_same_bits([&](int n_threads) {
    return std::vector<double>{als_loss<Cpu>(users(), items(), gram_x.data(), gram_y.data(), interactions().view(),
                                             problem, counts.data(), n_threads)};
  });
}

RF_CASE(threads_csr) {
  const Matrix& matrix = interactions();
  check_same_bits([&](int n_threads) {
    const CsrVerdict verdict = validate_csr<Cpu>(matrix.view(), matrix.nnz(), n_threads);
    CHECK(verdict.code == CsrDefect::kNone);
    std::vector<int64_t> t_row_ptr(static_cast<size_t>(kItems) + 1);
    std::vector<int32_t> t_col_idx(matrix.col_idx.size());
    std::vector<float> t_values(matrix.values.size());
    csr_transpose<Cpu>(t_row_ptr.data(), t_col_idx.data(), t_values.data(), matrix.view(), n_threads);
    t_row_ptr.insert(t_row_ptr.end(), t_col_idx.begin(), t_col_idx.end());
    for (const float v : t_values) t_row_ptr.push_back(static_cast<int64_t>(2 * v));
    return t_row_ptr;
  });
}

RF_CASE(threads_csr_finds_the_first_defect) {
  Matrix broken = interactions();
  const size_t places[] = {broken.col_idx.size() / 3, broken.col_idx.size() / 2, broken.col_idx.size() - 1};
  for (const size_t at : places) broken.col_idx[at] = static_cast<int32_t>(kItems);
  for (const int n_threads : kThreads) {
    const CsrVerdict verdict = validate_csr<Cpu>(broken.view(), broken.nnz(), n_threads);
    CHECK_AT(verdict.code == CsrDefect::kColumn, n_threads);
    CHECK_AT(verdict.where == static_cast<int64_t>(places[0]), n_threads);
  }
}

RF_CASE(threads_csr_from_coo) {
  constexpr int64_t n = 60000;
  std::vector<int32_t> rows, cols;
  for (uint64_t i = 0; i < n; ++i) {  // few columns, so that many pairs occur again
    rows.push_back(to_range(draw(15, 0, i, 0), kUsers));
    cols.push_back(to_range(draw(15, 0, i, 1), 30));
  }
  const auto values = test::uniform(n, 16);
  const Coo entries{rows.data(), cols.data(), values.data(), n, kUsers, 30};
  for (const Duplicates policy : {Duplicates::kSum, Duplicates::kMax, Duplicates::kLast, Duplicates::kError}) {
    check_same_bits([&](int n_threads) {
      std::vector<int64_t> row_ptr(static_cast<size_t>(kUsers) + 1), source(n);
      std::vector<int32_t> col_idx(n);
      std::vector<float> merged(n);
      const int64_t nnz =
          csr_from_coo<Cpu>(row_ptr.data(), col_idx.data(), merged.data(), source.data(), entries, policy, n_threads);
      CHECK_AT((nnz < 0) == (policy == Duplicates::kError), nnz);
      std::vector<double> out{static_cast<double>(nnz)};
      if (nnz < 0) return out;
      out.insert(out.end(), row_ptr.begin(), row_ptr.end());
      for (size_t i = 0; i < static_cast<size_t>(nnz); ++i) {
        out.insert(out.end(), {static_cast<double>(col_idx[i]), merged[i], static_cast<double>(source[i])});
      }
      return out;
    });
  }
}

Eligible unseen() { return {nullptr, 0, interactions().row_ptr.data(), interactions().col_idx.data()}; }

RF_CASE(threads_topk) {
  std::vector<int32_t> candidates;
  for (int32_t i = 0; i < kItems; i += 7) candidates.push_back(i);
  Eligible few = unseen();
  few.candidates = candidates.data();
  few.n_candidates = static_cast<int64_t>(candidates.size());
  for (const Eligible& eligible : {unseen(), few, Eligible{nullptr, 0, nullptr, nullptr}}) {
    for (const int64_t n : {1, 20, 300}) {
      check_same_bits([&](int n_threads) {
        std::vector<int32_t> ids(static_cast<size_t>(kUsers * n));
        std::vector<float> scores(ids.size());
        topk<Cpu>({ids.data(), kUsers, n}, {scores.data(), kUsers, n}, users(), items(), eligible, n_threads);
        scores.insert(scores.end(), ids.begin(), ids.end());
        return scores;
      });
    }
  }
}

RF_CASE(threads_rank_metrics) {
  const int32_t ks[] = {1, 20, 100};
  check_same_bits([&](int n_threads) {
    std::vector<double> out(static_cast<size_t>(kUsers * (kRankMetrics * 3 + 1)));
    rank_metrics<Cpu>(out.data(), users(), items(), unseen(), held_out().view(false), ks, 3, n_threads);
    rank_auc<Cpu>(out.data() + kUsers * kRankMetrics * 3, users(), items(), unseen(), held_out().view(false),
                  n_threads);
    return out;
  });
}

RF_CASE(threads_list_metrics) {
  const int32_t ks[] = {5, 10};
  std::vector<int32_t> ids(static_cast<size_t>(kUsers * 10), -1);
  std::vector<float> scores(ids.size());
  topk<Cpu>({ids.data(), kUsers, 10}, {scores.data(), kUsers, 10}, users(), items(), unseen(), 1);
  check_same_bits([&](int n_threads) {
    std::vector<double> out(static_cast<size_t>(kUsers * kRankMetrics * 2));
    list_metrics<Cpu>(out.data(), {ids.data(), kUsers, 10}, held_out().view(false), ks, 2, n_threads);
    return out;
  });
}

RF_CASE(threads_pair_scores_and_negatives) {
  std::vector<double> cdf;
  for (int64_t i = 0; i < kItems; ++i)
    cdf.push_back((cdf.empty() ? 0.0 : cdf.back()) + 1.0 / static_cast<double>(i + 1));
  std::vector<int32_t> everybody;
  for (int32_t u = 0; u < kUsers; ++u) everybody.push_back(u);
  check_same_bits([&](int n_threads) {
    std::vector<float> out(static_cast<size_t>(interactions().nnz()));
    pair_scores<Cpu>(out.data(), users(), items(), interactions().view(false), n_threads);
    for (const double* weights : {static_cast<const double*>(nullptr), static_cast<const double*>(cdf.data())}) {
      std::vector<int32_t> drawn(static_cast<size_t>(kUsers * 4));
      sample_negatives<Cpu>({drawn.data(), kUsers, 4}, everybody.data(), interactions().view(false), weights, 3, 1,
                            n_threads);
      out.insert(out.end(), drawn.begin(), drawn.end());
    }
    return out;
  });
}

}  // namespace
}  // namespace recsys_fast
