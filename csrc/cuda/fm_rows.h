// Scores of sparse rows under a factorization machine, plain or field-aware, and what gradients need of them.
#pragma once

#include "cuda/field_rows.h"

namespace recsys_fast {

constexpr int kFmThreads = 128;

// A row of the table holds n_fields vectors of length d and a weight. The slots of a row of the matrix are n_fields
// times as wide: slot f holds, for every field h, the sum of x v_{., f} over the entries of field h, then a 1. So the
// gradient of a feature of field f is its x times slot f, but for the feature itself, which is in the sum.
struct FmTable {
  Rows<const float> rows;
  const int32_t* fields;  // null: one field
  int64_t n_fields;
  RF_HOST_DEVICE int64_t n_factors() const { return rows.d - 1; }
  RF_HOST_DEVICE int64_t d() const { return n_factors() / n_fields; }
  RF_HOST_DEVICE int64_t slots() const { return n_fields * rows.d; }
  __device__ __forceinline__ int64_t field(int64_t feature) const { return fields != nullptr ? fields[feature] : 0; }
};

// Overwrites slots[b] (null: nobody wants them, with one field) and calls finish(b, row, score without the bias) for
// row b of n, which is ids[b] of x, or first + b. n_lanes lanes per row.
template <bool kOneField, class Finish>
__global__ void __launch_bounds__(kFmThreads, 4)
    fm_forward_kernel(Finish finish, float* slots, FmTable table, Csr x, const int32_t* ids, int64_t first, int64_t n,
                      int n_lanes) {
  const int thread = static_cast<int>(threadIdx.x), lane = thread % n_lanes;
  const int64_t b = (int64_t{blockIdx.x} * kFmThreads + thread) / n_lanes;
  const int64_t width = table.rows.d, n_factors = table.n_factors(), n_fields = kOneField ? 1 : table.n_fields;
  const int64_t d = kOneField ? n_factors : table.d();
  const int64_t row = b >= n ? 0 : ids != nullptr ? int64_t{ids[b]} : first + b;
  float* own = slots != nullptr ? slots + b * n_fields * width : nullptr;
  float products = 0.0f, weights = 0.0f;
  if (b < n) {
    for (int64_t c = lane; c < n_factors; c += n_lanes) {
      const int64_t partner = kOneField ? 0 : c / d;  // the slot, and where in it vectors of field h end up
      float* to = own != nullptr ? own + partner * width + (c - partner * d) : nullptr;
      if constexpr (!kOneField) {
        for (int64_t h = 0; h < n_fields; ++h) to[h * d] = 0.0f;
      }
      const RowSum found = sum_column(x, row, table.rows.data + c, width, kOneField ? nullptr : table.fields,
                                      [&](int32_t h, float part) {
                                        if constexpr (!kOneField) to[h * d] += part;
                                      });
      if constexpr (kOneField) {
        if (to != nullptr) *to = found.sum;
        products += found.sum * found.sum - found.squares;
      }
    }
    if (own != nullptr) {
      for (int64_t f = lane; f < n_fields; f += n_lanes) own[f * width + n_factors] = 1.0f;
    }
    weights = weight_part(x, row, table.rows, n_factors, lane, n_lanes);
  }
  if constexpr (!kOneField) {
    __syncwarp();  // the slots are there for the other lanes
    if (b < n) {
      for (int64_t e = x.row_ptr[row]; e < x.row_ptr[row + 1]; ++e) {
        const int64_t id = x.col_idx[e], h = table.field(id);
        const float value = x.values != nullptr ? x.values[e] : 1.0f;
        for (int64_t c = lane; c < n_factors; c += n_lanes) {
          const float part = value * table.rows.row(id)[c];
          products += part * (own[h * width + c] - (c / d == h ? part : 0.0f));
        }
      }
    }
  }
  const float score = Warp::reduce(0.5f * products + weights, Sum(), n_lanes);
  if (b < n && lane == 0) finish(b, row, score);
}

// Scores of n rows; see the kernel.
template <class Finish>
void fm_forward(const Finish& finish, float* slots, const FmTable& table, const Csr& x, const int32_t* ids,
                int64_t first, int64_t n, Stream stream) {
  if (n == 0) return;
  const int n_lanes = lanes_for(table.n_factors());
  const dim3 grid(blocks_for(n * n_lanes, kFmThreads)), block(kFmThreads);
  if (table.fields == nullptr) {
    launch(fm_forward_kernel<true, Finish>, grid, block, 0, stream, finish, slots, table, x, ids, first, n, n_lanes);
  } else {
    launch(fm_forward_kernel<false, Finish>, grid, block, 0, stream, finish, slots, table, x, ids, first, n, n_lanes);
  }
}

}  // namespace recsys_fast
