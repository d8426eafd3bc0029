// Convolutions over time of packed sequences.
#pragma once

#include "core/device.h"
#include "core/dropout_mask.h"
#include "core/views.h"

namespace recsys_fast {

// A causal convolution with a layer norm: w (kernel_size d, d), oldest tap first; b, gamma, beta (d).
struct ConvLayer {
  const float *w, *b, *gamma, *beta;
};
struct ConvLayerGradients {
  float *w, *b, *gamma, *beta;
};

struct ConvBlock {
  ConvLayer first, second;
  int64_t kernel_size, dilation;  // the second layer's dilation is twice this
  DropoutMask dropout;
};

// Results of both norms before scale and shift (n_rows, d), and 1 / std of their rows (n_rows, 2).
template <class T>
struct ConvSaved {
  T *normal1, *normal2, *inverse;
};

// y = x + D(relu(LN2(conv2(relu(LN1(conv1(x))))))), conv(x)[t] = b + sum_j x[t - (kernel_size - 1 - j) dilation] w_j,
// zeros before a sequence's start. Yuan et al. 2019, figure 3b. y (n_rows, d) and saved are overwritten. Deterministic.
template <class Device>
void causal_conv_block_forward(float* y, ConvSaved<float> saved, Packed<const float> x, const ConvBlock& block,
                               float eps, int n_threads);

// Gradients for dy (n_rows, d), overwritten. Sums over rows have a fixed tree: the same bits for any n_threads.
template <class Device>
void causal_conv_block_backward(float* dx, ConvLayerGradients first, ConvLayerGradients second, const float* dy,
                                ConvSaved<const float> saved, Packed<const float> x, const ConvBlock& block,
                                int n_threads);

}  // namespace recsys_fast
