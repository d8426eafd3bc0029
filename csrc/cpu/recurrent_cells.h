// What a recurrent cell computes for a vector of units, and its gradient: the only place that knows the gates.
#pragma once

#include "core/sigmoid.h"

namespace recsys_fast {

// kGates: columns of the weights in units of H. kSaved: gates kept for the backward pass. kMemory: there is a c beside
// h. kTwoSides: the gradients of the products with x and with h differ. kColumns: vectors of units that one panel of
// the forward product covers, so that kGates * kColumns sums per row fill the registers.
//
// forward: from the products a (input) and s (state before), both with their bias, and the state before; returns h,
// turns c_{t-1} into c_t, writes what backward needs.
// backward: from dh and dc, the gradients of h_t and c_t, makes those of a (and of s, where they differ), and turns dh
// and dc into the parts of the gradients of h_{t-1} and c_{t-1} that do not pass through the weights.
struct GruCell {
  static constexpr int kGates = 3, kSaved = 4, kColumns = 1;
  static constexpr bool kMemory = false, kTwoSides = true;

  RF_INLINE static Vec forward(const Vec* a, const Vec* s, Vec before, Vec&, Vec* saved) {
    const Vec r = sigmoid(a[0] + s[0]), z = sigmoid(a[1] + s[1]), m = s[2], n = tanh(a[2] + r * m);
    saved[0] = r;
    saved[1] = z;
    saved[2] = n;
    saved[3] = m;
    return n + z * (before - n);
  }
  RF_INLINE static void backward(const Vec* saved, Vec, Vec, Vec before, Vec, Vec& dh, Vec&, Vec* da, Vec* ds) {
    const Vec r = saved[0], z = saved[1], n = saved[2], m = saved[3];
    da[2] = dh * (1.0f - z) * (1.0f - n * n);
    da[0] = ds[0] = da[2] * m * r * (1.0f - r);
    da[1] = ds[1] = dh * (before - n) * z * (1.0f - z);
    ds[2] = da[2] * r;
    dh *= z;
  }
};

struct LstmCell {
  static constexpr int kGates = 4, kSaved = 4, kColumns = 1;
  static constexpr bool kMemory = true, kTwoSides = false;

  RF_INLINE static Vec forward(const Vec* a, const Vec* s, Vec, Vec& c, Vec* saved) {
    const Vec i = sigmoid(a[0] + s[0]), f = sigmoid(a[1] + s[1]), g = tanh(a[2] + s[2]), o = sigmoid(a[3] + s[3]);
    saved[0] = i;
    saved[1] = f;
    saved[2] = g;
    saved[3] = o;
    c = f * c + i * g;
    return o * tanh(c);
  }
  RF_INLINE static void backward(const Vec* saved, Vec, Vec c, Vec, Vec c_before, Vec& dh, Vec& dc, Vec* da, Vec*) {
    const Vec i = saved[0], f = saved[1], g = saved[2], o = saved[3], squashed = tanh(c);
    dc += dh * o * (1.0f - squashed * squashed);
    da[0] = dc * g * i * (1.0f - i);
    da[1] = dc * c_before * f * (1.0f - f);
    da[2] = dc * i * (1.0f - g * g);
    da[3] = dh * squashed * o * (1.0f - o);
    dc *= f;
    dh = Vec{};
  }
};

template <bool Relu>
struct PlainCell {
  static constexpr int kGates = 1, kSaved = 0, kColumns = 4;
  static constexpr bool kMemory = false, kTwoSides = false;

  RF_INLINE static Vec forward(const Vec* a, const Vec* s, Vec, Vec&, Vec*) {
    const Vec sum = a[0] + s[0];
    return Relu ? (sum < 0.0f ? Vec{} : sum) : tanh(sum);  // a NaN stays one
  }
  RF_INLINE static void backward(const Vec*, Vec h, Vec, Vec, Vec, Vec& dh, Vec&, Vec* da, Vec*) {
    da[0] = Relu ? (h > 0.0f ? dh : Vec{}) : dh * (1.0f - h * h);
    dh = Vec{};
  }
};

}  // namespace recsys_fast
