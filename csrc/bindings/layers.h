// Checks of what layers over packed rows share.
#pragma once

#include "bindings/buffers.h"

namespace recsys_fast::bindings {

// Row pointers from 0 to n_rows that never descend; a loop over anything else would leave the arrays.
inline void check_row_ptr(const Array<const int64_t>& row_ptr, int64_t n_rows) {
  if (row_ptr.size() < 1) throw ShapeError("length of row_ptr", row_ptr.size(), 1);
  const int64_t* p = row_ptr.data();
  check_size("first of row_ptr", p[0], 0);
  check_size("last of row_ptr", p[row_ptr.size() - 1], n_rows);
  for (int64_t s = 1; s < row_ptr.size(); ++s) {
    if (p[s] < p[s - 1]) throw ShapeError("row_ptr descends to", p[s], p[s - 1]);
  }
}

}  // namespace recsys_fast::bindings
