// Caser's convolutions over windows of items (Tang & Wang 2018).
#pragma once

#include <cstdint>

#include "core/device.h"
#include "core/dropout_mask.h"

namespace recsys_fast {

// w_h: (i d, n_horizontal) for the heights i = 1 to window, one below the other; b_h (window n_horizontal);
// w_v (window, n_vertical); b_v (n_vertical) or null.
struct CaserWeights {
  const float *w_h, *b_h, *w_v, *b_v;
};
struct CaserGradients {
  float *w_h, *b_h, *w_v, *b_v;
};
struct CaserSizes {
  int64_t n, window, d, n_horizontal, n_vertical;
  int64_t n_maxima() const { return window * n_horizontal; }
  int64_t width() const { return n_maxima() + n_vertical * d; }
};

// z (n, width) = D([max over p of relu(x[p : p + i] . w_i[:, f] + b), height by height; sum_l x[l] w_v[l, c] + b_v[c]])
// of windows x (n window, d); argmax (n, n_maxima) is the first p of the maximum, -1 where none is positive.
// Overwrites.
template <class Device>
void caser_forward(float* z, int32_t* argmax, const float* x, const CaserWeights& weights, const CaserSizes& sizes,
                   const DropoutMask& dropout, int n_threads);

// Gradients for dz (n, width), overwritten. Sums over windows have a fixed tree: the same bits for any n_threads.
template <class Device>
void caser_backward(float* dx, const CaserGradients& gradients, const float* dz, const int32_t* argmax, const float* x,
                    const CaserWeights& weights, const CaserSizes& sizes, const DropoutMask& dropout, int n_threads);

}  // namespace recsys_fast
