// One row of a sparse product, summed into a dense row of floats.
#pragma once

#include <algorithm>

#include "core/simd.h"
#include "cpu/product_plan.h"

namespace recsys_fast {

// A row of the left side.
struct ProductRow {
  const int32_t* cols;
  const float* values;  // null: every entry counts 1
  int64_t n;
};

inline constexpr int64_t kBitsAhead = 12, kListAhead = 6;  // entries whose row of b is asked for in advance

// sums[0 .. NV kByteLanes) = number of the row's entries whose bit is set. Bytes hold 255 at most.
template <int NV>
inline void count_bits(float* sums, const ProductRow& row, const ProductPlan& plan, int64_t first) {
  for (int64_t j = 0; j < NV * kByteLanes; j += kLanes) store(sums + j, Vec{});
  for (int64_t begin = 0; begin < row.n; begin += 255) {
    const int64_t end = std::min(row.n, begin + 255);
    VecByte count[NV] = {};
    for (int64_t p = begin; p < end; ++p) {
      prefetch(plan.bits(row.cols[std::min(p + kBitsAhead, row.n - 1)]) + first / 8, NV * kByteLanes / 8);
      const uint8_t* bits = plan.bits(row.cols[p]) + first / 8;
#pragma GCC unroll 16
      for (int v = 0; v < NV; ++v) count[v] = increment_where(count[v], bits + v * (kByteLanes / 8));
    }
#pragma GCC unroll 16
    for (int v = 0; v < NV; ++v) add_bytes(sums + v * kByteLanes, count[v]);
  }
}

// sums[0 .. NV kLanes) = sum of the values of the row's entries whose bit is set, in order.
template <int NV>
inline void weigh_bits(float* sums, const ProductRow& row, const ProductPlan& plan, int64_t first) {
  Vec sum[NV] = {};
  for (int64_t p = 0; p < row.n; ++p) {
    __builtin_prefetch(plan.bits(row.cols[std::min(p + kBitsAhead, row.n - 1)]) + first / 8);
    uint32_t words[(NV * kLanes + 31) / 32];
    std::memcpy(words, plan.bits(row.cols[p]) + first / 8, NV * kLanes / 8);
    const Vec value = broadcast(row.values[p]);
#pragma GCC unroll 16
    for (int v = 0; v < NV; ++v) {
      const uint32_t mask = words[v * kLanes / 32] >> (v * kLanes % 32);
      sum[v] = add_where(sum[v], mask & ((uint64_t{1} << kLanes) - 1), value);
    }
  }
#pragma GCC unroll 16
  for (int v = 0; v < NV; ++v) store(sums + v * kLanes, sum[v]);
}

// The head of the plan; overwrites sums[0 .. n_head).
inline void sum_head(float* sums, const ProductRow& row, const ProductPlan& plan) {
  constexpr int kWide = kVectorRegisters / 2;
  int64_t at = 0;
  if (row.values == nullptr) {
    for (; at + kWide * kByteLanes <= plan.n_head; at += kWide * kByteLanes) {
      count_bits<kWide>(sums + at, row, plan, at);
    }
    for (; at < plan.n_head; at += 4 * kByteLanes) count_bits<4>(sums + at, row, plan, at);
  } else {
    for (; at < plan.n_head; at += kWide * kLanes) weigh_bits<kWide>(sums + at, row, plan, at);
  }
}

RF_INLINE void ask_for_list(const ProductRow& row, int64_t p, const Csr& lists) {
  const int64_t at = lists.row_ptr[row.cols[std::min(p + kListAhead, row.n - 1)]];
  __builtin_prefetch(lists.col_idx + at);
  if (lists.values != nullptr) __builtin_prefetch(lists.values + at);
}

// sums += the entries in lists.
inline void sum_lists(float* sums, const ProductRow& row, const Csr& lists) {
  for (int64_t p = 0; p < row.n; ++p) {
    ask_for_list(row, p, lists);
    const float value = row.values == nullptr ? 1.0f : row.values[p];
    const int64_t begin = lists.row_ptr[row.cols[p]], end = lists.row_ptr[row.cols[p] + 1];
    if (lists.values == nullptr) {
      for (int64_t q = begin; q < end; ++q) sums[lists.col_idx[q]] += value;
    } else {
      for (int64_t q = begin; q < end; ++q) sums[lists.col_idx[q]] += value * lists.values[q];
    }
  }
}

// The same, and the places met: one whose sum was 0 joins the list, several times where it returned to 0. touched:
// room for one more than the row's multiply-adds. Returns their number.
inline int64_t sum_lists(float* sums, const ProductRow& row, const Csr& lists, int32_t* touched) {
  int64_t n = 0;
  for (int64_t p = 0; p < row.n; ++p) {
    ask_for_list(row, p, lists);
    const float value = row.values == nullptr ? 1.0f : row.values[p];
    for (int64_t q = lists.row_ptr[row.cols[p]]; q < lists.row_ptr[row.cols[p] + 1]; ++q) {
      const int32_t c = lists.col_idx[q];
      touched[n] = c;
      n += sums[c] == 0.0f;
      sums[c] += lists.values == nullptr ? value : value * lists.values[q];
    }
  }
  return n;
}

// Sums other than 0 and their places, packed. Room for one per column and a vector.
struct PackedSums {
  float* sums;
  int32_t* places;
  int64_t n;
};

// Appends those of sums[begin .. end), and puts 0 in their stead (or blank, unless null). Whole vectors; places from
// `end` on hold 0.
inline void pack_range(PackedSums& packed, float* sums, const float* blank, int64_t begin, int64_t end) {
  VecInt place;
  for (int i = 0; i < kLanes; ++i) place[i] = static_cast<int32_t>(begin) + i;
  for (int64_t j = begin; j < end; j += kLanes, place += kLanes) {
    const Vec sum = load(sums + j);
    const uint32_t nonzero = mask_nonzero(sum);
    compress(packed.places + packed.n, place, nonzero);
    packed.n += compress(packed.sums + packed.n, sum, nonzero);
    store(sums + j, blank == nullptr ? Vec{} : load(blank + j));
  }
}

// The same for the places of a list, which may be that of `packed` from packed.n on.
inline void pack_touched(PackedSums& packed, float* sums, const int32_t* touched, int64_t n_touched) {
  for (int64_t t = 0; t < n_touched; ++t) {
    const int32_t place = touched[t];
    const float sum = sums[place];
    packed.places[packed.n] = place;
    packed.sums[packed.n] = sum;
    packed.n += sum != 0.0f;
    sums[place] = 0.0f;
  }
}

}  // namespace recsys_fast
