// A fully connected layer.
#pragma once

#include "ops/conv.h"

namespace recsys_fast {

enum class Activation { kRelu = 0, kGelu = 1, kTanh = 2, kSigmoid = 3, kIdentity = 4 };

// w (d_in, d_out); b (d_out) or null.
struct DenseLayer {
  const float *w, *b;
  int64_t d_in, d_out;
  Activation activation;
  DropoutMask dropout;
};

// y (n, d_out) = D(activation(x w + b)), x (n, d_in); pre (n, d_out) = x w + b where it is not null. GELU is the form
// with tanh (Hendrycks & Gimpel 2016). Overwrites.
template <class Device>
void dense_forward(float* y, float* pre, const float* x, int64_t n, const DenseLayer& layer, int n_threads);

// Gradients for dy (n, d_out), overwritten; dx and db may be null; pre is read for GELU only. Sums over rows have a
// fixed tree: the same bits for any n_threads.
template <class Device>
void dense_backward(float* dx, float* dw, float* db, const float* dy, const float* y, const float* pre, const float* x,
                    int64_t n, const DenseLayer& layer, int n_threads);

}  // namespace recsys_fast
