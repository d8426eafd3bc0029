// A fully connected layer.
#pragma once

#include "core/device.h"
#include "core/dropout_mask.h"
#include "ops/activation.h"

namespace recsys_fast {

// w (d_in, d_out); b (d_out) or null.
struct DenseLayer {
  const float *w, *b;
  int64_t d_in, d_out;
  Activation activation;
  DropoutMask dropout;
};

// y (n, d_out) = D(activation(x w + b)), x (n, d_in); pre (n, d_out) = x w + b where it is not null. Overwrites.
template <class Device>
void dense_forward(float* y, float* pre, const float* x, int64_t n, const DenseLayer& layer, int n_threads);

// Gradients for dy (n, d_out), overwritten; dx and db may be null; pre is read where needs_argument. Sums over rows
// have a fixed tree: the same bits for any n_threads.
template <class Device>
void dense_backward(float* dx, float* dw, float* db, const float* dy, const float* y, const float* pre, const float* x,
                    int64_t n, const DenseLayer& layer, int n_threads);

}  // namespace recsys_fast
