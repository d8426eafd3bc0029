// What a recurrent cell computes for one unit, and its gradient; the formulas are those of cpu/recurrent_cells.h.
#pragma once

#include "cuda/activation.h"

namespace recsys_fast {

// kGates: columns of the weights in units of H. kSaved: gates kept for the backward pass. kMemory: there is a c beside
// h. kTwoSides: the gradients of the products with x and with h differ.
//
// forward: from the products a (input) and s (state before), both with their bias, and the state before; returns h,
// turns c_{t-1} into c_t, writes what backward needs.
// backward: from dh and dc, the gradients of h_t and c_t, makes those of a (and of s, where they differ), and turns dh
// and dc into the parts of the gradients of h_{t-1} and c_{t-1} that do not pass through the weights.
struct GruCell {
  static constexpr int kGates = 3, kSaved = 4;
  static constexpr bool kMemory = false, kTwoSides = true;

  static __device__ __forceinline__ float forward(const float* a, const float* s, float before, float&, float* saved) {
    const float r = sigmoid(a[0] + s[0]), z = sigmoid(a[1] + s[1]), m = s[2], n = tanhf(a[2] + r * m);
    saved[0] = r;
    saved[1] = z;
    saved[2] = n;
    saved[3] = m;
    return n + z * (before - n);
  }
  static __device__ __forceinline__ void backward(const float* saved, float, float, float before, float, float& dh,
                                                  float&, float* da, float* ds) {
    const float r = saved[0], z = saved[1], n = saved[2], m = saved[3];
    da[2] = dh * (1.0f - z) * (1.0f - n * n);
    da[0] = ds[0] = da[2] * m * r * (1.0f - r);
    da[1] = ds[1] = dh * (before - n) * z * (1.0f - z);
    ds[2] = da[2] * r;
    dh *= z;
  }
};

struct LstmCell {
  static constexpr int kGates = 4, kSaved = 4;
  static constexpr bool kMemory = true, kTwoSides = false;

  static __device__ __forceinline__ float forward(const float* a, const float* s, float, float& c, float* saved) {
    const float i = sigmoid(a[0] + s[0]), f = sigmoid(a[1] + s[1]), g = tanhf(a[2] + s[2]), o = sigmoid(a[3] + s[3]);
    saved[0] = i;
    saved[1] = f;
    saved[2] = g;
    saved[3] = o;
    c = f * c + i * g;
    return o * tanhf(c);
  }
  static __device__ __forceinline__ void backward(const float* saved, float, float c, float, float c_before, float& dh,
                                                  float& dc, float* da, float* ds) {
    const float i = saved[0], f = saved[1], g = saved[2], o = saved[3], squashed = tanhf(c);
    dc += dh * o * (1.0f - squashed * squashed);
    da[0] = ds[0] = dc * g * i * (1.0f - i);
    da[1] = ds[1] = dc * c_before * f * (1.0f - f);
    da[2] = ds[2] = dc * i * (1.0f - g * g);
    da[3] = ds[3] = dh * squashed * o * (1.0f - o);
    dc *= f;
    dh = 0.0f;
  }
};

template <bool kRelu>
struct PlainCell {
  static constexpr int kGates = 1, kSaved = 0;
  static constexpr bool kMemory = false, kTwoSides = false;

  static __device__ __forceinline__ float forward(const float* a, const float* s, float, float&, float*) {
    const float sum = a[0] + s[0];
    return kRelu ? (sum < 0.0f ? 0.0f : sum) : tanhf(sum);  // a NaN stays one
  }
  static __device__ __forceinline__ void backward(const float*, float h, float, float, float, float& dh, float&,
                                                  float* da, float* ds) {
    da[0] = ds[0] = kRelu ? (h > 0.0f ? dh : 0.0f) : dh * (1.0f - h * h);
    dh = 0.0f;
  }
};

}  // namespace recsys_fast
