// Arithmetic of a factorization machine: a row's score with what its features' gradients need, and those gradients.
#pragma once

#include "core/simd.h"
#include "core/views.h"
#include "ops/fm_arithmetic.h"

namespace recsys_fast {

// Widths of a table. A row's partial sums are n_fields slots of `slot` floats: slot f holds, for every field h, the sum
// of x v_{., f} over the row's features of field h, then a 1. So the gradient of a feature of field f is its x times
// slot f, but for the feature itself, which is in the sum.
struct FmShape {
  int64_t d, n_fields, n_factors, width, slot;
  static FmShape of(int64_t width, int64_t n_fields) {
    return {(width - 1) / n_fields, n_fields, width - 1, width, padded(width)};
  }
};

constexpr int kPanel = 4;  // vectors of a row that are worked on at once

// Calls body.template operator()<vectors>(first column) for each panel of `width` columns.
template <class Body>
RF_INLINE void for_panels(int64_t width, Body&& body) {
  int64_t at = 0;
  for (; at + kPanel * kLanes <= width; at += kPanel * kLanes) body.template operator()<kPanel>(at);
  switch ((width - at + kLanes - 1) / kLanes) {
    case 1:
      body.template operator()<1>(at);
      break;
    case 2:
      body.template operator()<2>(at);
      break;
    case 3:
      body.template operator()<3>(at);
      break;
    case 4:
      body.template operator()<4>(at);
      break;
    default:
      break;
  }
}

// Vector i of a panel that starts at p, `left` columns before the row's end.
template <int Vectors>
RF_INLINE Vec load_panel(const float* p, int i, int64_t left) {
  return i + 1 < Vectors ? load(p + i * kLanes)
                         : load_first(p + i * kLanes, std::min<int64_t>(kLanes, left - i * kLanes));
}

RF_INLINE Vec lane_numbers() {
  Vec v;
  for (int i = 0; i < kLanes; ++i) v[i] = static_cast<float>(i);
  return v;
}

// One field: score = sum_k 1/2 [(sum_j x v_jk)^2 - sum_j x^2 v_jk^2] + sum_j w_j x.
struct PlainForward {
  Rows<const float> table;
  FmShape shape;
  Csr rows;

  // Returns the score without the bias; fills slots where it is not null.
  float operator()(int64_t row, float* slots) const {
    const int64_t begin = rows.row_ptr[row], end = rows.row_ptr[row + 1], last = shape.n_factors;
    Vec score = {};
    for_panels(shape.width, [&]<int Vectors>(int64_t at) {
      Vec sum[Vectors] = {}, squares[Vectors] = {};
      const int64_t left = shape.width - at;
      for (int64_t e = begin; e < end; ++e) {
        const float* values = table.row(rows.col_idx[e]) + at;
        const Vec x = broadcast(rows.values == nullptr ? 1.0f : rows.values[e]);
#pragma GCC unroll 4
        for (int i = 0; i < Vectors; ++i) {
          const Vec part = x * load_panel<Vectors>(values, i, left);
          sum[i] += part;
          squares[i] += part * part;
        }
      }
#pragma GCC unroll 4
      for (int i = 0; i < Vectors; ++i) {
        const Vec place = lane_numbers() + broadcast(static_cast<float>(at + i * kLanes - last));
        const Vec factor = broadcast(0.5f) * (sum[i] * sum[i] - squares[i]);
        score += place < Vec{} ? factor : (place == Vec{} ? sum[i] : Vec{});
        if (slots != nullptr) store(slots + at + i * kLanes, place == Vec{} ? broadcast(1.0f) : sum[i]);
      }
    });
    return reduce_add(score);
  }
};

// Several fields, D = 0 or the length d of a vector. Scratch of n_fields slots is needed also for the score alone.
template <int D>
struct FieldForward {
  Rows<const float> table;
  FmShape shape;
  Csr rows;
  const int32_t* fields;

  float operator()(int64_t row, float* slots) const {
    const int64_t begin = rows.row_ptr[row], end = rows.row_ptr[row + 1];
    const int64_t d = D > 0 ? D : shape.d, n_fields = shape.n_fields, slot = shape.slot;
    uint64_t seen = 0;  // fields that the row has had, the first 64 of them
    if (n_fields > 64) std::fill(slots, slots + n_fields * slot, 0.0f);
    for (int64_t e = begin; e < end; ++e) {
      const float x = rows.values == nullptr ? 1.0f : rows.values[e];
      const float* __restrict values = table.row(rows.col_idx[e]);
      const int64_t field = fields[rows.col_idx[e]];
      float* __restrict out = slots + field * d;
      if (n_fields > 64 || (seen >> field & 1) != 0) {
        for (int64_t f = 0; f < n_fields; ++f, out += slot, values += d) {
          for (int64_t k = 0; k < d; ++k) out[k] += x * values[k];
        }
        continue;
      }
      seen |= uint64_t{1} << field;
      for (int64_t f = 0; f < n_fields; ++f, out += slot, values += d) {
        for (int64_t k = 0; k < d; ++k) out[k] = x * values[k];
      }
    }
    for (int64_t field = 0; field < n_fields && n_fields <= 64; ++field) {
      if ((seen >> field & 1) != 0) continue;
      for (int64_t f = 0; f < n_fields; ++f) std::fill_n(slots + f * slot + field * d, d, 0.0f);
    }
    float score = 0.0f;
    for (int64_t e = begin; e < end; ++e) {
      const float x = rows.values == nullptr ? 1.0f : rows.values[e];
      const float* values = table.row(rows.col_idx[e]);
      const int64_t field = fields[rows.col_idx[e]];
      float own = 0.0f;
      for (int64_t k = 0; k < d; ++k) own += values[field * d + k] * values[field * d + k];
      const float pairs = dot(values, slots + field * slot, shape.n_factors);
      score += x * (0.5f * (pairs - x * own) + values[shape.n_factors]);
    }
    for (int64_t f = 0; f < n_fields; ++f) slots[f * slot + shape.n_factors] = 1.0f;
    return score;
  }
};

}  // namespace recsys_fast
