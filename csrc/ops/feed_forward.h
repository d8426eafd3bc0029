// The feed-forward block: two layers on every row. T rows of width d, h between the layers; null pointers are absent.
#pragma once

#include "core/device.h"
#include "ops/activation.h"
#include "ops/block.h"

namespace recsys_fast {

struct FeedForwardShape {
  int64_t n_rows, d, h;
  Activation activation;
  BlockNorm norm;
  float eps;
  BlockMasks masks;
};

// Parameters (T const) or their gradients.
template <class T>
struct FeedForwardParameters {
  T* gamma;  // (d), beta (d)
  T* beta;
  T* w1;  // (d, h), b1 (h)
  T* b1;
  T* w2;  // (h, d), b2 (d)
  T* b2;
};

// What the forward pass leaves for the backward pass.
template <class T>
struct FeedForwardSaved {
  T* hidden;  // (n_rows, h) x w1 + b1
  T* stats;   // (n_rows, 2) mean, 1 / deviation of the layer norm
  T* mid;     // (n_rows, d) what a layer norm behind the residual was made from
};

// f(x) = D'(g(x w1 + b1)) w2 + b2, g the activation. Overwrites y (n_rows, d) and saved.
template <class Device>
void feed_forward_block_forward(const FeedForwardShape& shape, const FeedForwardParameters<const float>& parameters,
                                const float* x, float* y, const FeedForwardSaved<float>& saved, int n_threads);

// Overwrites dx (n_rows, d) and the gradients; a sum over rows has a tree that depends on n_rows only.
template <class Device>
void feed_forward_block_backward(const FeedForwardShape& shape, const FeedForwardParameters<const float>& parameters,
                                 const float* x, const FeedForwardSaved<const float>& saved, const float* dy, float* dx,
                                 const FeedForwardParameters<float>& gradients, int n_threads);

}  // namespace recsys_fast
