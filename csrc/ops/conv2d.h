// Convolutions and pooling of images, channels last.
#pragma once

#include <cstdint>

#include "core/device.h"
#include "ops/activation.h"

namespace recsys_fast {

// Sizes; out_h, out_w are before the pooling, top and left the zeros that lie before an image.
struct ConvShape {
  int64_t height, width, channels, kernel_h, kernel_w, stride_h, stride_w, top, left, out_h, out_w, pool_h, pool_w;
  int64_t high() const { return out_h / pool_h; }
  int64_t wide() const { return out_w / pool_w; }
  bool pooled() const { return pool_h * pool_w > 1; }
  int64_t image() const { return height * width * channels; }
  int64_t taps() const { return kernel_h * kernel_w * channels; }
};

// w (taps, d): a row for each channel of each place of the kernel, row by row; b (d) or null.
struct ConvWeights {
  const float *w, *b;
  int64_t d;
  Activation activation;
};

// What the backward pass reads besides y: arguments of the activation, or null; places of maxima, or null.
template <class T, class Place>
struct ConvKept {
  T* pre;
  Place* argmax;
};

// y (n, high wide d) = activation(maxima over pool windows of b + sum of taps of x), x (n, height width channels).
// Overwrites; first place of equal maxima. The activation is monotone where there is pooling. Deterministic.
template <class Device>
void conv2d_forward(float* y, ConvKept<float, uint8_t> kept, const float* x, int64_t n, const ConvShape& shape,
                    const ConvWeights& layer, int n_threads);

// Gradients for dy, overwritten; dx and db may be null. Sums over images have a fixed tree: the same bits for any
// n_threads.
template <class Device>
void conv2d_backward(float* dx, float* dw, float* db, const float* dy, const float* y,
                     ConvKept<const float, const uint8_t> kept, const float* x, int64_t n, const ConvShape& shape,
                     const ConvWeights& layer, int n_threads);

struct PoolShape {
  int64_t height, width, channels, window_h, window_w, stride_h, stride_w;
  int64_t high() const { return (height - window_h) / stride_h + 1; }
  int64_t wide() const { return (width - window_w) / stride_w + 1; }
};

// y (n, high wide channels) = maxima of windows, with their places in the image, or with argmax = null means.
template <class Device>
void pool_forward(float* y, int32_t* argmax, const float* x, int64_t n, const PoolShape& shape, int n_threads);

// dx (n, height width channels) = its gradient; overwrites.
template <class Device>
void pool_backward(float* dx, const float* dy, const int32_t* argmax, int64_t n, const PoolShape& shape, int n_threads);

}  // namespace recsys_fast
