// Sigmoid, its logarithm and tanh by polynomials fitted in Chebyshev points: errors of a few roundings for |x| < 10,
// relative errors below 3e-6 everywhere.
#pragma once

#include "core/simd.h"

namespace recsys_fast {

// e^x; x is taken as the nearest number in [-87, 88], where the result is a normal float. NaN stays: a comparison with
// it is false, and max and min give their second operand.
RF_INLINE Vec exp(Vec x) {
  x = min(broadcast(88.0f), max(broadcast(-87.0f), x));
  const Vec magic = broadcast(12582912.0f);  // 1.5 * 2^23: the sum's lowest bits are the nearest integer
  const Vec shifted = x * 1.44269504f + magic;
  const Vec r = x * 1.44269504f - (shifted - magic), r2 = r * r;
  const Vec p = (1.00000008f + 0.69314721f * r) + r2 * (0.24022107f + 0.05550327f * r) +
                (r2 * r2) * (0.00967604f + 0.00134004f * r);
  VecInt bits, power;
  std::memcpy(&bits, &p, sizeof bits);
  std::memcpy(&power, &shifted, sizeof power);
  bits += power << 23;
  Vec out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

// 1 / (1 + e^-x)
RF_INLINE Vec sigmoid(Vec x) { return 1.0f / (1.0f + exp(-x)); }
RF_INLINE float sigmoid(float x) { return sigmoid(broadcast(x))[0]; }

// (1 - e^-2x) / (1 + e^-2x); near 0, where that cancels, an odd polynomial. NaN stays.
RF_INLINE Vec tanh(Vec x) {
  const Vec size = x < 0.0f ? -x : x, x2 = x * x;
  const Vec p = (-0.333332792f + 0.133313814f * x2) + (x2 * x2) * (-0.0537353188f + 0.0206262918f * x2) -
                (x2 * x2) * (x2 * x2) * 0.00569198566f;
  const Vec far = 1.0f - 2.0f / (1.0f + exp(x + x));
  return size >= 0.625f ? far : x + x * (x2 * p);
}

// log(1 + e) for 0 <= e <= 1
RF_INLINE Vec log_one_plus(Vec e) {
  const Vec e2 = e * e, e4 = e2 * e2;
  const Vec p = (0.99999997f - 0.49999502f * e) + e2 * (0.33319271f - 0.2484437f * e) +
                e4 * ((0.19111431f - 0.1367477f * e) + e2 * (0.07836167f - 0.02958851f * e) + e4 * 0.00525346f);
  return e * p;
}

// log(1 + e^x) = -log sigmoid(-x); NaN and infinity stay.
RF_INLINE Vec softplus(Vec x) {
  const Vec size = x < 0.0f ? -x : x;
  return 0.5f * (x + size) + log_one_plus(exp(-size));
}
RF_INLINE float softplus(float x) { return softplus(broadcast(x))[0]; }

// Both from one exponential.
struct LogisticTerms {
  Vec sigmoid, softplus;
};
RF_INLINE LogisticTerms logistic_terms(Vec x) {
  const Vec size = x < 0.0f ? -x : x, e = exp(-size);
  return {(x < 0.0f ? e : broadcast(1.0f)) / (1.0f + e), 0.5f * (x + size) + log_one_plus(e)};
}

}  // namespace recsys_fast
