// How the product of a layer with an activation ends; a functor of cuda/gemm.h.
#pragma once

#include "core/dropout_hash.h"
#include "cuda/activation.h"
#include "cuda/gemm.h"

namespace recsys_fast {

// y = D(activation(product + b)), pre = product + b; rows of width d. b and pre may be null.
struct ActivatedOut {
  float *y, *pre;
  const float* b;
  int64_t d;
  Activation activation;
  Dropout drop;
  __device__ void operator()(int64_t row, int64_t col, float value) const {
    const int64_t at = row * d + col;
    if (b != nullptr) value += b[col];
    if (pre != nullptr) pre[at] = value;
    value = activate(activation, value);
    if (drop.active()) value *= dropout_at(drop, row, col, dropout_groups(d));
    y[at] = value;
  }
};

}  // namespace recsys_fast
