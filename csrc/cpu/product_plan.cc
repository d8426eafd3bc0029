#include "cpu/product_plan.h"

#include <algorithm>
#include <cstdint>
#include <numeric>

#include "core/thread_pool.h"

namespace recsys_fast {
namespace {

constexpr int64_t kMostBytes = int64_t{96} << 20;  // of bits
constexpr int64_t kRowGrain = 1 << 12;
constexpr uintptr_t kLine = 64;

// A column as a bit costs every entry of a 1 / kBitsPerStep of what an entry of a list costs. Measured: counts are
// vectors of bytes, weighted sums vectors of floats.
constexpr int64_t kBitsPerStep = 48, kWeightedBitsPerStep = 24;

}  // namespace

ProductPlan::ProductPlan(const Csr& a, const Csr& b, int n_threads) : tail(b) {
  std::vector<int64_t> uses(static_cast<size_t>(b.n_rows));  // how often a names each row of b
  const int64_t nnz = a.nnz();
  parallel_for(nnz, int64_t{1} << 22, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t p = begin; p < end; ++p) ++uses[a.col_idx[p]];
  });
  for (int64_t k = 0; k < b.n_rows; ++k) work += uses[k] * b.row_size(k);
  if (b.values != nullptr || work < 8 * b.nnz() || b.n_cols < kHeadStep) return;
  choose_head(a, b, uses);
  if (n_head != 0) split(b, n_threads);
}

void ProductPlan::choose_head(const Csr& a, const Csr& b, const std::vector<int64_t>& uses) {
  std::vector<int64_t> column_work(static_cast<size_t>(b.n_cols));
  for (int64_t k = 0; k < b.n_rows; ++k) {
    for (int64_t q = b.row_ptr[k]; q < b.row_ptr[k + 1]; ++q) column_work[b.col_idx[q]] += uses[k];
  }
  columns.resize(static_cast<size_t>(b.n_cols));
  std::iota(columns.begin(), columns.end(), 0);
  std::sort(columns.begin(), columns.end(), [&](int32_t i, int32_t j) {
    return column_work[i] != column_work[j] ? column_work[i] > column_work[j] : i < j;
  });
  const int64_t per_step = a.values == nullptr ? kBitsPerStep : kWeightedBitsPerStep;
  const int64_t most = kMostBytes / std::max<int64_t>(1, b.n_rows) * 8;
  for (int64_t end = kHeadStep; end <= std::min(most, b.n_cols); end += kHeadStep) {
    int64_t step_work = 0;
    for (int64_t place = end - kHeadStep; place < end; ++place) step_work += column_work[columns[place]];
    if (step_work * per_step < kHeadStep * a.nnz()) break;
    n_head = end;
  }
  places.resize(static_cast<size_t>(b.n_cols));
  for (int64_t place = 0; place < b.n_cols; ++place) places[columns[place]] = static_cast<int32_t>(place);
}

void ProductPlan::split(const Csr& b, int n_threads) {
  head_memory.assign(static_cast<size_t>(b.n_rows * (n_head / 8) + kLine), 0);
  head = head_memory.data() + (kLine - reinterpret_cast<uintptr_t>(head_memory.data()) % kLine) % kLine;
  tail_row_ptr.assign(static_cast<size_t>(b.n_rows + 1), 0);
  parallel_for(b.n_rows, kRowGrain, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t k = begin; k < end; ++k) {
      uint8_t* row = head + k * (n_head / 8);
      for (int64_t q = b.row_ptr[k]; q < b.row_ptr[k + 1]; ++q) {
        const int64_t at = places[b.col_idx[q]];
        if (at < n_head) {
          row[at / 8] = static_cast<uint8_t>(row[at / 8] | 1 << at % 8);
        } else {
          ++tail_row_ptr[k + 1];
        }
      }
    }
  });
  std::partial_sum(tail_row_ptr.begin(), tail_row_ptr.end(), tail_row_ptr.begin());
  tail_col_idx.resize(static_cast<size_t>(tail_row_ptr.back()));
  parallel_for(b.n_rows, kRowGrain, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t k = begin; k < end; ++k) {
      int64_t to = tail_row_ptr[k];
      for (int64_t q = b.row_ptr[k]; q < b.row_ptr[k + 1]; ++q) {
        const int32_t at = places[b.col_idx[q]];
        if (at >= n_head) tail_col_idx[to++] = at;
      }
    }
  });
  tail = {tail_row_ptr.data(), tail_col_idx.data(), nullptr, b.n_rows, b.n_cols};
}

}  // namespace recsys_fast
