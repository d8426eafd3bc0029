// A fully connected layer over sparse rows: sums of a table's rows by the entries of each row.
#pragma once

#include "core/device.h"
#include "core/dropout_mask.h"
#include "core/views.h"
#include "ops/activation.h"

namespace recsys_fast {

// y (n, d) = activation(x table + b), x (n, n_cols) sparse with values or null for ones, table (n_cols, d), b (d) or
// null; entries of value 0 cost nothing. Overwrites. Rows are independent.
template <class Device>
void csr_dense_forward(Rows<float> y, Csr x, Rows<const float> table, const float* b, Activation activation,
                       int n_threads);

// With g (n, d) = dy activation'(y): drows[r] = sum of x[e] g[row of e] over the entries e of the table's row r, in
// their order, and dbias[r] = sum of x[e]; db = sum of the rows of g. drows (R, d); dbias (R), db (d) and g may be
// null, g only with the identity; nnz: entries of x; entry_ptr (R + 1) and entries as of id_plan. Overwrites. The
// activation's slope is told by y.
template <class Device>
void csr_dense_backward(Rows<float> drows, float* dbias, float* db, float* g, Rows<const float> dy, const float* y,
                        Csr x, int64_t nnz, const int64_t* entry_ptr, const int32_t* entries, Activation activation,
                        int n_threads);

// out[e] = mask x[e], with `normalize` x[e] / |row of x|_2; rows of zeros stay. The mask is that of the entry's row and
// column.
template <class Device>
void csr_scale(float* out, Csr x, bool normalize, const DropoutMask& dropout, int n_threads);

}  // namespace recsys_fast
