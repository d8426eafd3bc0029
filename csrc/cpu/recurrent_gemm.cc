#include "cpu/recurrent_gemm.h"

#include "core/gemm.h"

namespace recsys_fast {
namespace {

// One register tile of multiply_rows: MR rows, NV vectors from `column` on.
template <int MR, int NV>
void rows_tile(const PackedMatrix& b, const float* panel, int64_t column, const float* const* a, float* const* out,
               const float* start, bool accumulate) {
  Vec sum[MR][NV];
  const float* left[MR];
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
    left[i] = a[i];
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      const int64_t at = column + v * kLanes;
      sum[i][v] = accumulate ? load_up_to(out[i] + at, b.n_cols - at) : start != nullptr ? load(start + at) : Vec{};
    }
  }
  gemm_accumulate<MR, NV>(sum, b.n_k, left, 1, panel, NV * kLanes);
#pragma GCC unroll 8
  for (int i = 0; i < MR; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < NV; ++v) {
      const int64_t at = column + v * kLanes;
      store_up_to(out[i] + at, sum[i][v], b.n_cols - at);
    }
  }
}

template <int MR = kTileRows, int NV = PackedMatrix::kPanelVectors>
void rows_tile_any(int64_t n_rows, int64_t n_vectors, const PackedMatrix& b, const float* panel, int64_t column,
                   const float* const* a, float* const* out, const float* start, bool accumulate) {
  if constexpr (MR > 1) {
    if (n_rows < MR) {
      return rows_tile_any<MR - 1, NV>(n_rows, n_vectors, b, panel, column, a, out, start, accumulate);
    }
  }
  if constexpr (NV > 1) {
    if (n_vectors < NV) {
      return rows_tile_any<MR, NV - 1>(n_rows, n_vectors, b, panel, column, a, out, start, accumulate);
    }
  }
  rows_tile<MR, NV>(b, panel, column, a, out, start, accumulate);
}

}  // namespace

void pack_panel(const PackedMatrix& b, int64_t p, const float* a) {
  const int64_t first = b.first_vector(p), n_vectors = b.first_vector(p + 1) - first;
  float* at = b.panel(p);
  for (int64_t k = 0; k < b.n_k; ++k) {
    for (int64_t v = first; v < first + n_vectors; ++v, at += kLanes) {
      store(at, load_up_to(a + k * b.n_cols + v * kLanes, b.n_cols - v * kLanes));
    }
  }
}

void pack_panel_transposed(const PackedMatrix& b, int64_t p, const float* a) {
  const int64_t first = b.first_vector(p), width = (b.first_vector(p + 1) - first) * kLanes;
  float* panel = b.panel(p);
  for (int64_t column = 0; column < width; column += kLanes) {
    const float* rows = a + (first * kLanes + column) * b.n_k;
    const int64_t n = std::min<int64_t>(kLanes, b.n_cols - first * kLanes - column);
    int64_t k = 0;
    for (; n == kLanes && k + kLanes <= b.n_k; k += kLanes) {
      transpose_tile(panel + k * width + column, width, rows + k, b.n_k);
    }
    for (; k < b.n_k; ++k) {
      for (int64_t j = 0; j < kLanes; ++j) panel[k * width + column + j] = j < n ? rows[j * b.n_k + k] : 0.0f;
    }
  }
}

void multiply_rows(const PackedMatrix& b, const float* const* a, float* const* out, int64_t n, const float* start,
                   bool accumulate) {
  for (int64_t p = 0; p < b.n_panels(); ++p) {
    const int64_t first = b.first_vector(p), n_vectors = b.first_vector(p + 1) - first;
    for (int64_t i = 0; i < n; i += kTileRows) {
      rows_tile_any(std::min<int64_t>(kTileRows, n - i), n_vectors, b, b.panel(p), first * kLanes, a + i, out + i,
                    start, accumulate);
    }
  }
}

void multiply_transposed(float* c, int64_t c_row, const float* a, int64_t a_row, int64_t n_i, const float* b,
                         int64_t b_row, int64_t n_j, int64_t n_k, bool accumulate) {
  const PackedMatrix cut{nullptr, n_k, n_j};  // for its even panels
  for (int64_t p = 0; p < cut.n_panels(); ++p) {
    const int64_t j = cut.first_vector(p) * kLanes;
    const int n_vectors = static_cast<int>(cut.first_vector(p + 1) - cut.first_vector(p));
    for (int64_t i = 0; i < n_i; i += kTileRows) {
      const int n_rows = static_cast<int>(std::min<int64_t>(kTileRows, n_i - i));
      gemm_tile_any(n_rows, n_vectors, n_k, a + i, 1, a_row, b + j, b_row, c + i * c_row + j, c_row, 1.0f, accumulate);
    }
  }
}

}  // namespace recsys_fast
