// Products of rows that lie anywhere with a packed matrix, and of transposed scratch: what a recurrent layer
// multiplies. A step has few rows, so its matrix is packed by panels, which other layers' tiles would not repay.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/row_ends.h"

namespace recsys_fast {

// A matrix (n_k, n_cols) in panels of nearly equal width, at most kPanelVectors vectors, zeros behind the last column:
// panel p holds n_k runs of its width, one behind the other.
struct PackedMatrix {
  static constexpr int kPanelVectors = kVectorRegisters == 32 ? 4 : 2;

  float* data;
  int64_t n_k, n_cols;

  int64_t n_vectors() const { return padded(n_cols) / kLanes; }
  int64_t n_panels() const { return (n_vectors() + kPanelVectors - 1) / kPanelVectors; }
  int64_t first_vector(int64_t panel) const { return n_vectors() * panel / n_panels(); }
  float* panel(int64_t p) const { return data + first_vector(p) * kLanes * n_k; }
  static size_t floats(int64_t n_k, int64_t n_cols) { return static_cast<size_t>(n_k * padded(n_cols)); }
};

// Panel p of b = a (n_k, n_cols), or of b = a^T for a (n_cols, n_k).
void pack_panel(const PackedMatrix& b, int64_t p, const float* a);
void pack_panel_transposed(const PackedMatrix& b, int64_t p, const float* a);

// out[i] = start + a[i] b for n rows of n_k and n_cols floats; start (padded(n_cols)) null: zeros, or with `accumulate`
// what out holds. Writes no column behind n_cols.
void multiply_rows(const PackedMatrix& b, const float* const* a, float* const* out, int64_t n, const float* start,
                   bool accumulate);

// c (n_i, n_j) (+)= a^T b for a (n_k, n_i), b (n_k, n_j), c, all of rows that far apart; n_j a multiple of kLanes.
void multiply_transposed(float* c, int64_t c_row, const float* a, int64_t a_row, int64_t n_i, const float* b,
                         int64_t b_row, int64_t n_j, int64_t n_k, bool accumulate);

}  // namespace recsys_fast
