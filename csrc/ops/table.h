// Gradients of an embedding table by its rows: which rows a batch touches, and the sums over what touches them.
#pragma once

#include "core/device.h"
#include "core/views.h"

namespace recsys_fast {

// rows = distinct ids, ascending; entries[entry_ptr[r] .. entry_ptr[r + 1]) = where rows[r] occurs, ascending. ids (n)
// in [-1, n_table), -1 is left out; rows (n), entry_ptr (n + 1), entries (n), overwritten. Returns the number of rows.
template <class Device>
int64_t id_plan(int32_t* rows, int64_t* entry_ptr, int32_t* entries, const int32_t* ids, int64_t n, int64_t n_table,
                int n_threads);

// Gradients of single rows, numbered through: dx, then dcand, then coef[e] h[e / width], or coef[e] h[row_of[e]] where
// rows of h have different numbers of entries. Each may be of length 0; coef null counts 1.
struct RowGradients {
  Rows<const float> dx;     // (N1, d)
  Rows<const float> dcand;  // (N2, d)
  const float* dcand_bias;  // (N2) or null
  const float* coef;        // (n_coef)
  int64_t n_coef;           //
  const float* h;           // (n_coef / width, d)
  int64_t width;
  const int32_t* row_of = nullptr;  // (n_coef) or null
  int64_t size() const { return dx.n + dcand.n + n_coef; }
};

// Gradient e of them: factor times a row of d numbers, and `bias`, that of the bias.
struct RowGradient {
  const float* row;
  float factor, bias;
  RF_HOST_DEVICE float operator()(int64_t c) const { return row[c] * factor; }
};

RF_HOST_DEVICE inline RowGradient row_gradient(const RowGradients& from, int64_t d, int64_t e) {
  if (e < from.dx.n) return {from.dx.data + e * d, 1.0f, 0.0f};
  e -= from.dx.n;
  if (e < from.dcand.n) {
    return {from.dcand.data + e * d, 1.0f, from.dcand_bias != nullptr ? from.dcand_bias[e] : 0.0f};
  }
  e -= from.dcand.n;
  const int64_t row = from.row_of != nullptr ? from.row_of[e]
                      : from.width == 1      ? e
                                             : static_cast<uint32_t>(e) / static_cast<uint32_t>(from.width);
  const float factor = from.coef != nullptr ? from.coef[e] : 1.0f;
  return {from.h + row * d, factor, factor};
}

// drows[r] = sum over the entries of row r, in their order; dbias[r] = sum of their dcand_bias and coef. drows (R, d),
// dbias (R) or null, entry_ptr (R + 1), entries as of id_plan. Overwrites. Deterministic.
template <class Device>
void table_gradient(Rows<float> drows, float* dbias, const int64_t* entry_ptr, const int32_t* entries,
                    const RowGradients& from, int n_threads);

// dtable[ids[e]] += entry e, in the order of the entries, and dbias likewise; dtable (n, d), dbias (n) or null, ids
// (from.size()), -1 is left out. Accumulates. Deterministic: each row belongs to one thread, which sees all ids.
template <class Device>
void table_add(Rows<float> dtable, float* dbias, const int32_t* ids, const RowGradients& from, int n_threads);

}  // namespace recsys_fast
