#include "ops/csr.h"

#include <algorithm>
#include <utility>

#include "cuda/entry_rows.h"
#include "cuda/entry_sort.h"
#include "cuda/id_row.h"
#include "cuda/kernel.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256;
constexpr int kRowTile = 2048;  // entries whose rows a block looks up
constexpr int kPlaceBits = 56;
constexpr unsigned long long kNoDefect = ~0ull;

// A defect and its place in one word: the least of all is what is reported, whoever finds it first.
__device__ unsigned long long verdict_word(CsrDefect defect, int64_t where) {
  return static_cast<unsigned long long>(defect) << kPlaceBits | static_cast<unsigned long long>(where);
}

__global__ void __launch_bounds__(kThreads)
    validate_row_ptr_kernel(unsigned long long* verdict, const int64_t* row_ptr, int64_t n_rows, int64_t nnz) {
  const int64_t r = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  unsigned long long word = kNoDefect;
  if (r < n_rows && row_ptr[r] > row_ptr[r + 1]) word = verdict_word(CsrDefect::kPointerDecreases, r);
  if (r == n_rows && row_ptr[r] != nnz) word = verdict_word(CsrDefect::kLastPointer, r);
  if (r == 0 && row_ptr[0] != 0) word = verdict_word(CsrDefect::kFirstPointer, 0);
  if (word != kNoDefect) atomicMin(verdict, word);
}

// Reads 8 bytes an entry, once; the neighbour's column comes from L1. Only a column that is not above the one before,
// which is one per row of a sorted matrix, has its row looked up.
__global__ void __launch_bounds__(kThreads)
    validate_entries_kernel(unsigned long long* verdict, Csr matrix, int64_t nnz) {
  // Pointers with a defect cannot be followed. Other blocks may have found defects of entries already.
  if (*verdict < verdict_word(CsrDefect::kColumn, 0)) return;
  const int64_t step = int64_t{gridDim.x} * kThreads;
  unsigned long long word = kNoDefect;
  for (int64_t e = int64_t{blockIdx.x} * kThreads + threadIdx.x; e < nnz; e += step) {
    const int32_t column = matrix.col_idx[e];
    if (column < 0 || column >= matrix.n_cols) word = min(word, verdict_word(CsrDefect::kColumn, e));
    if (matrix.values != nullptr) {
      const float value = matrix.values[e];
      if (!(value - value == 0.0f)) word = min(word, verdict_word(CsrDefect::kNotFinite, e));
    }
    if (e > 0 && column <= matrix.col_idx[e - 1]) {
      const int64_t row = row_of_entry(matrix.row_ptr, matrix.n_rows, e);
      if (matrix.row_ptr[row] != e) word = min(word, verdict_word(CsrDefect::kUnsorted, row));
    }
  }
  if (word != kNoDefect) atomicMin(verdict, word);
}

// rows[e] = row of entry e. Two searches over all rows a block, then short ones between their results: a block's work
// does not depend on how long rows are.
__global__ void __launch_bounds__(kThreads)
    entry_rows_kernel(int32_t* rows, const int64_t* row_ptr, int64_t n_rows, int64_t nnz) {
  RF_SHARED(int64_t, ends, 2);
  const int64_t begin = int64_t{blockIdx.x} * kRowTile, end = min(nnz, begin + kRowTile);
  if (threadIdx.x % 32 == 0 && threadIdx.x < 64) {
    ends[threadIdx.x / 32] = row_of_entry(row_ptr, n_rows, threadIdx.x == 0 ? begin : end - 1);
  }
  __syncthreads();
  const int64_t first = ends[0], n = ends[1] - first;
  for (int64_t e = begin + threadIdx.x; e < end; e += kThreads) {
    rows[e] = static_cast<int32_t>(first + first_above(n, [&](int64_t i) { return row_ptr[first + 1 + i] > e; }));
  }
}

// starts[key] = number of the sorted keys below it, key = 0 .. n_keys.
__global__ void __launch_bounds__(kThreads)
    key_starts_kernel(int64_t* starts, int64_t n_keys, const int32_t* keys, int64_t n) {
  const int64_t key = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (key <= n_keys) starts[key] = first_above(n, [&](int64_t i) { return keys[i] >= key; });
}

}  // namespace

void entry_rows(int32_t* rows, const int64_t* row_ptr, int64_t n_rows, int64_t nnz, Stream stream) {
  if (nnz == 0) return;
  launch(entry_rows_kernel, dim3(blocks_for(nnz, kRowTile)), dim3(kThreads), 0, stream, rows, row_ptr, n_rows, nnz);
}

template <>
CsrVerdict validate_csr<Cuda>(Csr matrix, int64_t nnz, int) {
  const Stream stream = current_stream();
  const unsigned long long none = kNoDefect;
  DeviceBuffer<unsigned long long> verdict(1, stream);
  copy_to_device(verdict.data(), &none, 1, stream);
  launch(validate_row_ptr_kernel, dim3(blocks_for(matrix.n_rows + 1, kThreads)), dim3(kThreads), 0, stream,
         verdict.data(), matrix.row_ptr, matrix.n_rows, nnz);
  // Sixteen blocks an SM stride over the entries: two waves, and one atomic a thread at most.
  const unsigned most_blocks = 16u * static_cast<unsigned>(n_multiprocessors());
  launch(validate_entries_kernel, dim3(std::min(blocks_for(nnz, kThreads), most_blocks)), dim3(kThreads), 0, stream,
         verdict.data(), matrix, nnz);
  const unsigned long long word = read_element(verdict.data(), stream);
  if (word == kNoDefect) return {CsrDefect::kNone, 0};
  return {static_cast<CsrDefect>(word >> kPlaceBits), static_cast<int64_t>(word & ((1ull << kPlaceBits) - 1))};
}

template <>
void csr_transpose<Cuda>(int64_t* t_row_ptr, int32_t* t_col_idx, float* t_values, Csr matrix, int) {
  const Stream stream = current_stream();
  const int64_t nnz = matrix.n_rows > 0 ? read_element(matrix.row_ptr + matrix.n_rows, stream) : 0;
  if (nnz == 0) return fill_zero(t_row_ptr, matrix.n_cols + 1, stream);
  const int n_passes = n_digits(matrix.n_cols);
  const bool has_values = matrix.values != nullptr;
  DeviceBuffer<int32_t> keys(nnz, stream), more_keys(n_passes > 1 ? nnz : 0, stream), rows(nnz, stream);
  DeviceBuffer<float> values(n_passes > 1 && has_values ? nnz : 0, stream);
  // Entries go back and forth between `out` and `other` and end in the result; their rows start where the first pass
  // does not write.
  Entries out = {keys.data(), t_col_idx, has_values ? t_values : nullptr};
  Entries other = {more_keys.data(), rows.data(), values.data()};
  if (n_passes % 2 == 0) std::swap(out, other);
  entry_rows(other.others, matrix.row_ptr, matrix.n_rows, nnz, stream);
  const EntrySorter sorter(nnz, stream);
  ConstEntries in = {matrix.col_idx, other.others, matrix.values};
  for (int pass = 0; pass < n_passes; ++pass) {
    sorter.pass(out, in, pass * kDigitBits);
    in = {out.keys, out.others, out.values};
    std::swap(out, other);
  }
  launch(key_starts_kernel, dim3(blocks_for(matrix.n_cols + 1, kThreads)), dim3(kThreads), 0, stream, t_row_ptr,
         matrix.n_cols, in.keys, nnz);
}

}  // namespace recsys_fast
