#include "ops/csr.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>

#include "core/simd.h"
#include "core/thread_pool.h"
#include "cpu/counting_sort.h"

namespace recsys_fast {
namespace {

constexpr int64_t kBlock = 1 << 15;  // entries looked at at once: 256 KB with their values
constexpr int64_t kRows = 1 << 12;   // rows that are copied at once
constexpr int64_t kAhead = 16;       // rows that are asked for before they are copied

// Plain reductions over integers, so that the compiler may reorder them into vectors.
uint32_t largest_column(const int32_t* col_idx, int64_t begin, int64_t end) {
  uint32_t largest = 0;
  for (int64_t j = begin; j < end; ++j) largest = std::max(largest, static_cast<uint32_t>(col_idx[j]));
  return largest;  // a negative column is the largest of all
}

uint32_t largest_magnitude(const float* values, int64_t begin, int64_t end) {
  uint32_t largest = 0;
  for (int64_t j = begin; j < end; ++j) largest = std::max(largest, std::bit_cast<uint32_t>(values[j]) & 0x7fffffffu);
  return largest;  // the bits of |x| order as |x| does; infinity and NaN come last
}
constexpr uint32_t kInfinity = 0x7f800000u;

// Entries of the block whose column is not above that of the entry before, other than at the start of a row.
int64_t count_descents(const Csr& m, int64_t begin, int64_t end) {
  int32_t n = 0;
  for (int64_t j = std::max<int64_t>(begin, 1); j < end; ++j) n += m.col_idx[j] <= m.col_idx[j - 1];
  if (n == 0) return 0;
  const int64_t* row = std::lower_bound(m.row_ptr, m.row_ptr + m.n_rows, begin);
  for (const int64_t* last = m.row_ptr + m.n_rows; row < last && *row < end; ++row) {
    if (*row > 0 && row[0] < row[1]) n -= m.col_idx[*row] <= m.col_idx[*row - 1];
  }
  return n;
}

CsrVerdict check_row_ptr(const Csr& m, int64_t nnz, int n_threads) {
  if (m.row_ptr[0] != 0) return {CsrDefect::kFirstPointer, 0};
  std::atomic<bool> decreases{false};
  parallel_for(m.n_rows, kBlock, n_threads, [&](int64_t begin, int64_t end, int) {
    int32_t n = 0;
    for (int64_t r = begin; r < end; ++r) n += m.row_ptr[r] > m.row_ptr[r + 1];
    if (n != 0) decreases = true;
  });
  if (decreases)
    return {CsrDefect::kPointerDecreases, std::is_sorted_until(m.row_ptr, m.row_ptr + m.n_rows + 1) - m.row_ptr - 1};
  if (m.row_ptr[m.n_rows] != nnz) return {CsrDefect::kLastPointer, m.n_rows};
  return {CsrDefect::kNone, 0};
}

// The first place of a defect that some block has.
int64_t first_place(const Csr& m, int64_t nnz, CsrDefect defect) {
  if (defect == CsrDefect::kColumn) {
    return std::find_if(m.col_idx, m.col_idx + nnz, [&](int32_t c) { return c < 0 || c >= m.n_cols; }) - m.col_idx;
  }
  if (defect == CsrDefect::kNotFinite) {
    return std::find_if(m.values, m.values + nnz, [](float x) { return largest_magnitude(&x, 0, 1) >= kInfinity; }) -
           m.values;
  }
  for (int64_t r = 0; r < m.n_rows; ++r) {
    for (int64_t j = m.row_ptr[r] + 1; j < m.row_ptr[r + 1]; ++j) {
      if (m.col_idx[j] <= m.col_idx[j - 1]) return r;
    }
  }
  return m.n_rows;
}

}  // namespace

template <>
CsrVerdict validate_csr<Cpu>(Csr matrix, int64_t nnz, int n_threads) {
  const CsrVerdict pointers = check_row_ptr(matrix, nnz, n_threads);
  if (pointers.code != CsrDefect::kNone) return pointers;
  std::atomic<bool> out_of_range{false}, not_finite{false}, unsorted{false};
  parallel_for(nnz, kBlock, n_threads, [&](int64_t begin, int64_t end, int) {
    if (largest_column(matrix.col_idx, begin, end) >= static_cast<uint64_t>(matrix.n_cols)) out_of_range = true;
    if (matrix.values != nullptr && largest_magnitude(matrix.values, begin, end) >= kInfinity) not_finite = true;
    if (count_descents(matrix, begin, end) != 0) unsorted = true;
  });
  const CsrDefect defect = out_of_range ? CsrDefect::kColumn
                           : not_finite ? CsrDefect::kNotFinite
                           : unsorted   ? CsrDefect::kUnsorted
                                        : CsrDefect::kNone;
  return {defect, defect == CsrDefect::kNone ? 0 : first_place(matrix, nnz, defect)};
}

template <>
void csr_transpose<Cpu>(int64_t* t_row_ptr, int32_t* t_col_idx, float* t_values, Csr matrix, int n_threads) {
  const auto& m = matrix;
  counting_sort(t_row_ptr, m.n_cols, m.col_idx, m.nnz(), n_threads, [&](int64_t begin, int64_t end, int64_t* cursors) {
    int64_t row = std::upper_bound(m.row_ptr, m.row_ptr + m.n_rows + 1, begin) - m.row_ptr - 1;
    for (int64_t j = begin; j < end; ++row) {
      for (const int64_t stop = std::min(end, m.row_ptr[row + 1]); j < stop; ++j) {
        if (j + kSortAhead < end) {
          const int64_t soon = cursors[m.col_idx[j + kSortAhead]];
          __builtin_prefetch(t_col_idx + soon, 1);
          if (t_values != nullptr) __builtin_prefetch(t_values + soon, 1);
        }
        const int64_t place = cursors[m.col_idx[j]]++;
        t_col_idx[place] = static_cast<int32_t>(row);
        if (t_values != nullptr) t_values[place] = m.values[j];
      }
    }
  });
}

template <>
void csr_take_rows<Cpu>(int32_t* col_idx, float* values, const int64_t* row_ptr, const int64_t* starts, int64_t n_rows,
                        const int32_t* from_col_idx, const float* from_values, int n_threads) {
  parallel_for(n_rows, kRows, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t place = row_ptr[r], n = row_ptr[r + 1] - place, from = starts[r];
      if (r + kAhead < end) {
        const int64_t soon = starts[r + kAhead], bytes = 4 * (row_ptr[r + kAhead + 1] - row_ptr[r + kAhead]);
        if (bytes > 0) prefetch(from_col_idx + soon, bytes);
        if (bytes > 0 && values != nullptr) prefetch(from_values + soon, bytes);
      }
      std::copy_n(from_col_idx + from, n, col_idx + place);
      if (values != nullptr) std::copy_n(from_values + from, n, values + place);
    }
  });
}

}  // namespace recsys_fast
