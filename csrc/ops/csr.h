// Compressed sparse rows: the gate that every matrix passes, transposition, and assembly from coordinates.
#pragma once

#include "core/device.h"
#include "core/views.h"

namespace recsys_fast {

// What is wrong with a matrix, in the order in which it is reported; the last is worth knowing, not wrong.
enum class CsrDefect {
  kNone = 0,
  kFirstPointer = 1,      // row_ptr[0] != 0
  kPointerDecreases = 2,  // row_ptr[where] > row_ptr[where + 1]
  kLastPointer = 3,       // row_ptr[n_rows] is not the number of entries
  kColumn = 4,            // col_idx[where] outside [0, n_cols)
  kNotFinite = 5,         // values[where] is NaN or infinite
  kUnsorted = 6,          // row `where` does not strictly ascend: unsorted or duplicated columns
};

struct CsrVerdict {
  CsrDefect code;
  int64_t where;  // the first such place
};

// Reads every entry once; nnz is the length of col_idx (and of values, unless null). Deterministic for any n_threads.
template <class Device>
CsrVerdict validate_csr(Csr matrix, int64_t nnz, int n_threads);

// t_row_ptr (n_cols + 1), t_col_idx (nnz), t_values (nnz, or null where the input's are) = the transpose. Overwrites.
// A stable counting sort by column: each column keeps the order of its rows. Deterministic for any n_threads.
template <class Device>
void csr_transpose(int64_t* t_row_ptr, int32_t* t_col_idx, float* t_values, Csr matrix, int n_threads);

// col_idx and values (or null) = rows of another matrix behind each other: row r, entries [row_ptr[r], row_ptr[r + 1]),
// is what begins at entry starts[r] there. Overwrites. Deterministic.
template <class Device>
void csr_take_rows(int32_t* col_idx, float* values, const int64_t* row_ptr, const int64_t* starts, int64_t n_rows,
                   const int32_t* from_col_idx, const float* from_values, int n_threads);

// n coordinates (rows[j], cols[j], values[j]) in any order.
struct Coo {
  const int32_t* rows;
  const int32_t* cols;
  const float* values;
  int64_t n;
  int64_t n_rows;
  int64_t n_cols;
};

enum class Duplicates { kSum = 0, kMax = 1, kLast = 2, kError = 3 };

// row_ptr (n_rows + 1); col_idx, values, source (n) = the matrix with sorted rows, each pair once. Overwrites. Returns
// the number of entries; with kError -1 - j for the first j in input order that repeats a pair.
// source = input position of an entry: the last of a sum (made in float64), the last of the largest.
// Deterministic for any n_threads.
template <class Device>
int64_t csr_from_coo(int64_t* row_ptr, int32_t* col_idx, float* values, int64_t* source, const Coo& entries,
                     Duplicates duplicates, int n_threads);

}  // namespace recsys_fast
