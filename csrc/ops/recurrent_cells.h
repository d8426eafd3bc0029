// What a recurrent cell computes for a unit, and its gradient: the only place that knows the gates. Math says for what
// number: its type Number, a float or a vector of units, and sigmoid and tanh of it.
#pragma once

// Marks what has to be inlined, on the device only under nvcc, as is what Math calls.
#ifdef __CUDACC__
#define RF_CELL static __device__ __forceinline__
#else
#define RF_CELL static inline __attribute__((always_inline))
#endif

namespace recsys_fast {

// kGates: columns of the weights in units of H. kSaved: gates kept for the backward pass. kMemory: there is a c beside
// h. kTwoSides: the gradients of the products with x and with h differ; where they do not, both are written.
//
// forward: from the products a (input) and s (state before), both with their bias, and the state before; returns h,
// turns c_{t-1} into c_t, writes what backward needs.
// backward: from dh and dc, the gradients of h_t and c_t, makes those of a and s, and turns dh and dc into the parts of
// the gradients of h_{t-1} and c_{t-1} that do not pass through the weights.
template <class Math>
struct GruCell {
  using Number = typename Math::Number;
  static constexpr int kGates = 3, kSaved = 4;
  static constexpr bool kMemory = false, kTwoSides = true;

  RF_CELL Number forward(const Number* a, const Number* s, Number before, Number&, Number* saved) {
    const Number r = Math::sigmoid(a[0] + s[0]), z = Math::sigmoid(a[1] + s[1]), m = s[2];
    const Number n = Math::tanh(a[2] + r * m);
    saved[0] = r;
    saved[1] = z;
    saved[2] = n;
    saved[3] = m;
    return n + z * (before - n);
  }
  RF_CELL void backward(const Number* saved, Number, Number, Number before, Number, Number& dh, Number&, Number* da,
                        Number* ds) {
    const Number r = saved[0], z = saved[1], n = saved[2], m = saved[3];
    da[2] = dh * (1.0f - z) * (1.0f - n * n);
    da[0] = ds[0] = da[2] * m * r * (1.0f - r);
    da[1] = ds[1] = dh * (before - n) * z * (1.0f - z);
    ds[2] = da[2] * r;
    dh *= z;
  }
};

template <class Math>
struct LstmCell {
  using Number = typename Math::Number;
  static constexpr int kGates = 4, kSaved = 4;
  static constexpr bool kMemory = true, kTwoSides = false;

  RF_CELL Number forward(const Number* a, const Number* s, Number, Number& c, Number* saved) {
    const Number i = Math::sigmoid(a[0] + s[0]), f = Math::sigmoid(a[1] + s[1]);
    const Number g = Math::tanh(a[2] + s[2]), o = Math::sigmoid(a[3] + s[3]);
    saved[0] = i;
    saved[1] = f;
    saved[2] = g;
    saved[3] = o;
    c = f * c + i * g;
    return o * Math::tanh(c);
  }
  RF_CELL void backward(const Number* saved, Number, Number c, Number, Number c_before, Number& dh, Number& dc,
                        Number* da, Number* ds) {
    const Number i = saved[0], f = saved[1], g = saved[2], o = saved[3], squashed = Math::tanh(c);
    dc += dh * o * (1.0f - squashed * squashed);
    da[0] = ds[0] = dc * g * i * (1.0f - i);
    da[1] = ds[1] = dc * c_before * f * (1.0f - f);
    da[2] = ds[2] = dc * i * (1.0f - g * g);
    da[3] = ds[3] = dh * squashed * o * (1.0f - o);
    dc *= f;
    dh = Number{};
  }
};

template <class Math, bool kRelu>
struct PlainCell {
  using Number = typename Math::Number;
  static constexpr int kGates = 1, kSaved = 0;
  static constexpr bool kMemory = false, kTwoSides = false;

  RF_CELL Number forward(const Number* a, const Number* s, Number, Number&, Number*) {
    const Number sum = a[0] + s[0];
    if constexpr (kRelu) {
      return sum < 0.0f ? Number{} : sum;  // a NaN stays one
    } else {
      return Math::tanh(sum);
    }
  }
  RF_CELL void backward(const Number*, Number h, Number, Number, Number, Number& dh, Number&, Number* da, Number* ds) {
    if constexpr (kRelu) {
      da[0] = h > 0.0f ? dh : Number{};
    } else {
      da[0] = dh * (1.0f - h * h);
    }
    ds[0] = da[0];
    dh = Number{};
  }
};

}  // namespace recsys_fast
