// Rows of vectors: their lengths, the maxima of a sequence's rows, and several of them weighted to one.
#pragma once

#include "core/device.h"
#include "core/views.h"

namespace recsys_fast {

// y (n, d) = x / |x| and scale (n) = 1 / |x| row by row; a row of zeros stays one, with scale 0.
template <class Device>
void unit_rows_forward(Rows<float> y, float* scale, const float* x, int n_threads);

// dx (n, d) = scale (dy - y (y . dy)). Overwrites.
template <class Device>
void unit_rows_backward(Rows<float> dx, const float* dy, const float* y, const float* scale, int n_threads);

// y (n_sequences, d) = the largest number of each column of the sequence's rows, and places, of y's shape, which of
// these rows it is in, the first one of equals; zeros for a sequence without rows.
template <class Device>
void sequence_max_forward(Rows<float> y, int32_t* places, Packed<const float> x, int n_threads);

// dx: the gradient dy (n_sequences, d) at these places, 0 elsewhere. Overwrites.
template <class Device>
void sequence_max_backward(Packed<float> dx, const float* dy, const int32_t* places, int n_threads);

// n rows of k vectors of length d, and a number for each of them; vectors (n k, d), numbers (n, k).
struct Mixture {
  int64_t n, k, d;
};

// y (n, d) = sum_m w_m v_m, w (n, k) the softmax of scores + bias (k) over the vectors with present (n, k) not 0. A
// vector that is not present has weight 0; so have all, and y is 0, where none is. bias and present may be null.
template <class Device>
void mixture_forward(float* y, float* w, const float* v, const float* scores, const float* bias, const uint8_t* present,
                     const Mixture& size, int n_threads);

// dv and dscores of y's gradient dy. Overwrites.
template <class Device>
void mixture_backward(float* dv, float* dscores, const float* dy, const float* v, const float* w, const Mixture& size,
                      int n_threads);

}  // namespace recsys_fast
