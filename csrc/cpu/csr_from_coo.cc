#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "core/errors.h"
#include "core/thread_pool.h"
#include "cpu/counting_sort.h"
#include "ops/csr.h"

namespace recsys_fast {
namespace {

constexpr int64_t kRadixFrom = 128;  // row length from which counting digits beats comparing keys
constexpr int64_t kRowsAtOnce = 256;

// Entries of one row, as slices of the outputs.
struct RowSlice {
  int32_t* col_idx;
  float* values;
  int64_t* source;
  int64_t n;
};

// Sorts rows by column, stably. A key is column * 2^32 + place in the row, so all keys differ.
class RowSorter {
 public:
  explicit RowSorter(int64_t n_cols)
      : digits_(static_cast<int>(std::bit_width(static_cast<uint64_t>(n_cols)) + 7) / 8) {}

  void sort(RowSlice row) {
    if (std::is_sorted(row.col_idx, row.col_idx + row.n)) return;
    const auto n = static_cast<size_t>(row.n);
    check_row_length(row.n);
    grow(n);
    for (size_t j = 0; j < n; ++j) keys_[j] = static_cast<uint64_t>(row.col_idx[j]) << 32 | j;
    if (row.n < kRadixFrom) {
      std::sort(keys_.begin(), keys_.begin() + row.n);
    } else {
      for (int digit = 0; digit < digits_; ++digit) pass(n, 32 + 8 * digit);
    }
    std::copy_n(row.values, n, values_.begin());
    std::copy_n(row.source, n, source_.begin());
    for (size_t j = 0; j < n; ++j) {
      const auto from = static_cast<uint32_t>(keys_[j]);
      row.col_idx[j] = static_cast<int32_t>(keys_[j] >> 32);
      row.values[j] = values_[from];
      row.source[j] = source_[from];
    }
  }

 private:
  static void check_row_length(int64_t n) {
    constexpr int64_t kMost = std::numeric_limits<uint32_t>::max();
    if (n > kMost) throw ShapeError("entries of one row", n, kMost);
  }

  void grow(size_t n) {
    if (n <= keys_.size()) return;
    keys_.resize(n);
    other_.resize(n);
    values_.resize(n);
    source_.resize(n);
  }

  // One stable pass of a radix sort, over the 8 bits from `shift` on.
  void pass(size_t n, int shift) {
    uint32_t start[256] = {};
    for (size_t j = 0; j < n; ++j) ++start[keys_[j] >> shift & 255];
    for (uint32_t sum = 0; uint32_t& s : start) sum += std::exchange(s, sum);
    for (size_t j = 0; j < n; ++j) other_[start[keys_[j] >> shift & 255]++] = keys_[j];
    keys_.swap(other_);
  }

  int digits_;
  std::vector<uint64_t> keys_, other_;
  std::vector<float> values_;
  std::vector<int64_t> source_;
};

// Makes one entry at place `to` of the run [begin, end) of one pair.
void merge_run(RowSlice row, int64_t to, int64_t begin, int64_t end, Duplicates duplicates) {
  double sum = 0;
  int64_t at = begin;
  for (int64_t j = begin; j < end; ++j) {
    sum += row.values[j];
    if (duplicates != Duplicates::kMax || row.values[j] >= row.values[at]) at = j;
  }
  row.values[to] = duplicates == Duplicates::kSum ? static_cast<float>(sum) : row.values[at];
  row.source[to] = row.source[at];
  row.col_idx[to] = row.col_idx[begin];
}

// Merges the duplicates of a sorted row; returns how many entries are left. first_repeat = least source of an entry
// that has the same pair before it.
int64_t merge_row(RowSlice row, Duplicates duplicates, int64_t& first_repeat) {
  int64_t left = 0;
  for (int64_t begin = 0, end; begin < row.n; begin = end, ++left) {
    for (end = begin + 1; end < row.n && row.col_idx[end] == row.col_idx[begin];) ++end;
    if (end > begin + 1) first_repeat = std::min(first_repeat, row.source[begin + 1]);
    if (end > begin + 1 || left < begin) merge_run(row, left, begin, end, duplicates);
  }
  return left;
}

}  // namespace

template <>
int64_t csr_from_coo<Cpu>(int64_t* row_ptr, int32_t* col_idx, float* values, int64_t* source, const Coo& entries,
                          Duplicates duplicates, int n_threads) {
  const Coo& in = entries;
  counting_sort(row_ptr, in.n_rows, in.rows, in.n, n_threads, [&](int64_t begin, int64_t end, int64_t* cursors) {
    for (int64_t j = begin; j < end; ++j) {
      if (j + kSortAhead < end) {
        const int64_t soon = cursors[in.rows[j + kSortAhead]];
        __builtin_prefetch(col_idx + soon, 1);
        __builtin_prefetch(values + soon, 1);
        __builtin_prefetch(source + soon, 1);
      }
      const int64_t place = cursors[in.rows[j]]++;
      col_idx[place] = in.cols[j];
      values[place] = in.values[j];
      source[place] = j;
    }
  });
  const auto row_at = [&](int64_t r) {
    const int64_t begin = row_ptr[r];
    return RowSlice{col_idx + begin, values + begin, source + begin, row_ptr[r + 1] - begin};
  };
  constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  std::vector<int64_t> left(static_cast<size_t>(in.n_rows));
  std::vector<RowSorter> sorters(static_cast<size_t>(n_threads), RowSorter(in.n_cols));
  std::atomic<int64_t> first_repeat{kNever};
  parallel_for(in.n_rows, kRowsAtOnce, n_threads, [&](int64_t begin, int64_t end, int worker) {
    int64_t first = kNever;
    for (int64_t r = begin; r < end; ++r) {
      sorters[static_cast<size_t>(worker)].sort(row_at(r));
      left[static_cast<size_t>(r)] = merge_row(row_at(r), duplicates, first);
    }
    for (int64_t seen = first_repeat; first < seen && !first_repeat.compare_exchange_weak(seen, first);) {
    }
  });
  if (first_repeat == kNever) return in.n;
  if (duplicates == Duplicates::kError) return -1 - first_repeat;
  // Close the gaps that merged entries left at the ends of rows; one thread, because rows move into each other.
  int64_t place = 0;
  parallel_for(in.n_rows, kRowsAtOnce, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const RowSlice row = row_at(r);
      const int64_t n = left[static_cast<size_t>(r)];
      std::copy_n(row.col_idx, n, col_idx + place);
      std::copy_n(row.values, n, values + place);
      std::copy_n(row.source, n, source + place);
      row_ptr[r] = place;
      place += n;
    }
  });
  row_ptr[in.n_rows] = place;
  return place;
}

}  // namespace recsys_fast
