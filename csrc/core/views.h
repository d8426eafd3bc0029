// Views over memory that somebody else owns. Sizes and offsets are int64, column indices int32, numbers float32.
#pragma once

#include <cstdint>

#include "core/device.h"

namespace recsys_fast {

// Row-major matrix: n rows of d contiguous elements.
template <class T>
struct Rows {
  T* data;
  int64_t n;
  int64_t d;
  RF_HOST_DEVICE T* row(int64_t i) const { return data + i * d; }
};

// Compressed sparse rows; values == nullptr means that every entry counts 1.
struct Csr {
  const int64_t* row_ptr;
  const int32_t* col_idx;
  const float* values;
  int64_t n_rows;
  int64_t n_cols;
  RF_HOST_DEVICE int64_t nnz() const { return n_rows > 0 ? row_ptr[n_rows] : 0; }
  RF_HOST_DEVICE int64_t row_size(int64_t r) const { return row_ptr[r + 1] - row_ptr[r]; }
};

// Ragged sequences: rows of width d packed without padding; sequence s holds rows row_ptr[s] to row_ptr[s + 1].
template <class T>
struct Packed {
  T* data;
  const int64_t* row_ptr;
  int64_t n_sequences;
  int64_t d;
  int64_t n_rows;  // row_ptr[n_sequences], for a host that cannot look
};

}  // namespace recsys_fast
