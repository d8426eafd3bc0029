// Sparse rows of features whose columns belong to fields: a vector per row and field, and a factorization machine's
// score, from one table and in one pass; and the gradient of the table's rows.
#pragma once

#include "core/device.h"
#include "core/views.h"

namespace recsys_fast {

// Which columns belong to which field, and what besides the vectors is computed.
struct FieldSums {
  const int32_t* fields;  // (n_features), each in [0, n_fields); null where n_fields is 1
  int64_t n_fields;
  bool linear;  // the last column of the table holds weights, which are part of the score
  bool pairs;   // so are the products of the row's vectors by pairs
  int64_t n_factors(int64_t width) const { return width - (linear ? 1 : 0); }
};

// x[r, f] = sum over row r's entries of field f of value v_j; sums[r] = sum of all of them, then a 1 with `linear`;
// score[r] = sum value w_j (linear) + sum_k 1/2 [(sum value v_jk)^2 - sum value^2 v_jk^2] (pairs). table (n_features,
// d) holds v_j and w_j; x (n, n_fields, k), sums (n, d) or null without score, score (n) with k = n_factors(d);
// overwrites. Deterministic.
template <class Device>
void field_sums_forward(float* x, float* sums, float* score, Csr rows, Rows<const float> table, const FieldSums& how,
                        int n_threads);

// What the gradient of the table's rows is made of: entry e lies in row entry_rows[e].
struct FieldGradients {
  const int32_t* entry_rows;  // (nnz)
  const float* values;        // (nnz) or null
  const float* dx;            // (n, n_fields, k)
  const float* dscore;        // (n)
  const float* sums;          // (n, d), of the forward pass
};

// drows[t] = gradient of row features[t], summed over its entries in their order. drows (R, d), features (R),
// entry_ptr (R + 1), entries as of id_plan. Overwrites. Deterministic. Rendle 2010 for the pairs.
template <class Device>
void field_sums_backward(Rows<float> drows, const int32_t* features, const int64_t* entry_ptr, const int32_t* entries,
                         const FieldGradients& from, Rows<const float> table, const FieldSums& how, int n_threads);

}  // namespace recsys_fast
