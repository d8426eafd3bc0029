#include "cpu/topk_bytes.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace recsys_fast {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kSmallest = 1e-12f, kLargest = 1e12f;  // extremes with which no product here leaves float's range
constexpr float kAbove = 1.01f;                        // more than what rounding takes off a norm
constexpr float kBeyond = 1e9f;                        // more than any sum of byte products

// Least error to allow for: what rounding to float may hide of a row that bytes seem to hold exactly.
float least_error(float step, int64_t d) { return 2e-5f * step * std::sqrt(static_cast<float>(d)); }

}  // namespace

ByteBounds pack_bytes(int32_t* words, const float* panel, int64_t d, int64_t n_columns) {
  Vec extreme = {};
  for (int64_t at = 0; at < d * n_columns; at += kLanes) {
    const Vec x = load(panel + at);
    extreme = max(extreme, max(x, -x));
  }
  float largest = 0.0f;
  for (int i = 0; i < kLanes; ++i) largest = std::max(largest, extreme[i]);
  const bool fits = largest > kSmallest && largest < kLargest;
  const float step = fits ? largest / 127.0f : 1.0f, inverse = fits ? 127.0f / largest : 0.0f;
  float error = 0.0f, norm = 0.0f;
  for (int64_t j = 0; j < n_columns; j += kLanes) {
    Vec errors = {}, norms = {};
    for (int64_t w = 0; w < byte_words(d); ++w) {
      VecInt word = {};
      for (int b = 0; b < 4; ++b) {
        const int64_t k = 4 * w + b;
        const Vec x = k < d ? load(panel + k * n_columns + j) : Vec{};
        const Vec place = max(x * broadcast(inverse) + broadcast(128.5f), broadcast(1.0f));  // 1 for a NaN
        const VecInt byte = __builtin_convertvector(min(place, broadcast(255.5f)), VecInt);
        const Vec rounded = __builtin_convertvector(byte - 128, Vec) * broadcast(step);
        errors += (x - rounded) * (x - rounded);
        norms += rounded * rounded;
        word |= byte << (8 * b);
      }
      store(words + w * n_columns + j, word);
    }
    for (int i = 0; i < kLanes; ++i) {
      error = std::max(error, errors[i]);
      norm = std::max(norm, norms[i]);
    }
  }
  if (!fits) return {1.0f, kInfinity, 1.0f};
  return {1.0f / step, std::sqrt(error) * kAbove + least_error(step, d), std::sqrt(norm) * kAbove};
}

ByteQuery pack_byte_query(int32_t* words, int64_t step, const float* row, int64_t d) {
  float largest = 0.0f;
  for (int64_t k = 0; k < d; ++k) largest = std::max(largest, std::abs(row[k]));
  const bool fits = largest > kSmallest && largest < kLargest;
  const float unit = fits ? largest / 127.0f : 1.0f, inverse = fits ? 127.0f / largest : 0.0f;
  float error = 0.0f;
  int32_t sum = 0;
  for (int64_t w = 0; w < byte_words(d); ++w) {
    uint32_t word = 0;
    for (int b = 0; b < 4; ++b) {
      const float x = 4 * w + b < d ? row[4 * w + b] : 0.0f;
      const float place = x * inverse + 128.5f;
      const int32_t c = (place > 1.0f ? static_cast<int32_t>(std::min(place, 255.5f)) : 1) - 128;  // -127 for a NaN
      const float rest = x - static_cast<float>(c) * unit;
      error += rest * rest;
      sum += c;
      word |= static_cast<uint32_t>(c & 255) << (8 * b);
    }
    words[w * step] = static_cast<int32_t>(word);
  }
  if (!fits) return {1.0f, kInfinity, 0};
  return {1.0f / unit, std::sqrt(error) * kAbove + least_error(unit, d), 128 * sum};
}

void byte_limits(int32_t* least, const ByteQueries& queries, int64_t n, const ByteBounds& panel) {
  const Vec error = broadcast(panel.error * kAbove), norm = broadcast(panel.norm);  // |q| may grow in the basis
  const Vec inverse = broadcast(panel.inverse_step), most = broadcast(kBeyond);
  for (int64_t i = 0; i < n; i += kLanes) {
    const Vec threshold = load(queries.thresholds + i);
    const Vec hidden = load(queries.norms + i) * error + load(queries.errors + i) * norm;
    Vec sum = (threshold - hidden) * load(queries.inverse_steps + i) * inverse;
    // Threshold or error may be infinite: a comparison with NaN is false and picks the limit that rules nothing out.
    sum = sum > -most ? sum : -most;
    sum = sum < most ? sum : most;
    sum -= max(sum, -sum) * broadcast(0x1p-20f) + broadcast(2.0f);
    sum = threshold == broadcast(kInfinity) ? most : sum;
    store(least + i, __builtin_convertvector(sum, VecInt) + load(queries.offsets + i));
  }
}

}  // namespace recsys_fast
