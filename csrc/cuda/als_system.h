// Solves (I + W W^T) z = h by a block of threads, left-looking over tiles: a tile of the system is summed in
// registers, less the products of the factor's tiles left of it, then factored there, so it is written once, as factor.
//   z (N): unknowns, the features of a row (depth = its entries) or, where it has fewer entries than features, the
//   entries (depth = its features).
// One tile lives in shared memory. A larger factor goes to global scratch: a 64 x 64 tile is read (tiles - 1) / 2
// times, which is no more than the gather of y reads per tile, and a block's factor stays in L2 at the usual widths.
// Deterministic. Golub & Van Loan, Matrix Computations, 4.2.
#pragma once

#include "cuda/als_row.h"

namespace recsys_fast {

// Floats of scratch for the factor of n unknowns, none for a single tile. Tile (i, j <= i) is at i (i + 1) / 2 + j,
// element (r, c) of it at c * kTile + r.
template <int kTile>
RF_HOST_DEVICE constexpr int64_t als_factor_floats(int64_t n) {
  const int64_t tiles = (n + kTile - 1) / kTile;
  return tiles <= 1 ? 0 : tiles * (tiles + 1) / 2 * kTile * kTile;
}

// Shared memory of a system.
struct AlsSystemMemory {
  Shared<float> panels;    // (kTilePanels)
  Shared<float> diagonal;  // (kTile, kTileStride) tile of the factor, by column
  Shared<float> inverse;   // (kTile) of the diagonal tile's diagonal
  Shared<float> z;         // (n, rounded up to tiles) right-hand side, then solution
  Shared<int> broken;      // (1)
  Shared<double> parts;    // (32)
};

template <int kTile>
class AlsSystem {
 public:
  __device__ AlsSystem(const AlsSystemMemory& memory, float* factor, int64_t n)
      : memory_(memory), factor_(factor), n_(n), tiles_(static_cast<int>((n + kTile - 1) / kTile)) {}

  // memory.z in: a vector to which coefficient(k) W(., k) is added over all k for the right-hand side h; out: the
  // solution. Returns the square of the forward substitution's result: h . z; NaN where a pivot was not positive.
  // element(i, k): W, i < n; k < depth. coefficient(k).
  template <bool kAlongDepth, class Element, class Coefficient>
  __device__ double solve(int64_t depth, const Element& element, const Coefficient& coefficient) {
    return solve_tiles(
        [&](float (&sum)[4][4], float& along, int i, int j) {
          add_entries<kAlongDepth>(sum, along, i, j, depth, element, coefficient);
          if (i > j) return;
#pragma unroll
          for (int k = 0; k < 4; ++k) {
            if (place_.row == place_.col) sum[k][k] += 1.0f;
          }
        },
        [](int64_t) { return 0.0f; });
  }

  // The same for the system matrix(i, j), j <= i < n, and the right-hand side in memory.z, zeros behind n. A pivot i is
  // not positive where it is not above least(i).
  template <class Matrix, class Least>
  __device__ double solve_matrix(const Matrix& matrix, const Least& least) {
    return solve_tiles(
        [&](float (&sum)[4][4], float&, int i, int j) {
#pragma unroll
          for (int r = 0; r < 4; ++r) {
#pragma unroll
            for (int c = 0; c < 4; ++c) {
              const int64_t row = int64_t{i} * kTile + place_.row + r, col = int64_t{j} * kTile + place_.col + c;
              if (col <= row && row < n_) sum[r][c] += matrix(row, col);
              if (col == row && row >= n_) sum[r][c] += 1.0f;
            }
          }
        },
        [&](int64_t i) { return i < n_ ? least(i) : 0.0f; });
  }

 private:
  static constexpr int kThreads = kTileThreads<kTile>, kStride = kTileStride<kTile>;

  // start(sum, along, i, j) adds tile (i, j) of the system to sum, and tile j of the right-hand side to along.
  template <class Start, class Least>
  __device__ double solve_tiles(const Start& start, const Least& least) {
    if (thread_ == 0) memory_.broken[0] = 0;
#pragma unroll 1
    for (int j = 0; j < tiles_; ++j) {
#pragma unroll 1
      for (int i = j; i < tiles_; ++i) {  // one text for both kinds of tile: the compiler copies it here
        float sum[4][4] = {}, along = 0.0f;
        subtract_factor(sum, along, i, j);
        start(sum, along, i, j);
        if (i > j) {
          solve_below(sum, tile(i, j));
          continue;
        }
        if (thread_ < kTile) memory_.z[j * kTile + thread_] += along;
        factor_diagonal(sum, j, least);
        if (tiles_ > 1) keep_diagonal(j);
      }
    }
    double square = 0.0;
#pragma unroll 1
    for (int64_t i = thread_; i < n_; i += kThreads) square += double{memory_.z[i]} * memory_.z[i];
    square = Block::sum(square, memory_.parts);
    const bool broken = memory_.broken[0] != 0;
    substitute_back();
    return broken ? static_cast<double>(NAN) : square;
  }

  __device__ float* tile(int i, int j) const { return factor_ + (int64_t{i} * (i + 1) / 2 + j) * kTile * kTile; }

  // sum -= L(i, k) L(j, k)^T over tiles k < j; along -= L(j, k) z(k), z being solved there.
  __device__ void subtract_factor(float (&sum)[4][4], float& along, int i, int j) {
    if (j == 0) return;
    const float *left = tile(i, 0), *right = tile(j, 0);  // a row of tiles is contiguous, so k runs through it
    const auto at = [](const float* tiles) { return [tiles](int r, int64_t k) { return tiles[k * kTile + r]; }; };
    tile_product<kTile, false>(sum, along, memory_.panels, int64_t{j} * kTile, i == j, at(left), at(right),
                               [this](int64_t k) { return float{memory_.z[k]}; });
#pragma unroll
    for (int r = 0; r < 4; ++r) {
#pragma unroll
      for (int c = 0; c < 4; ++c) sum[r][c] = -sum[r][c];
    }
    along = -along;
  }

  template <bool kAlongDepth, class Element, class Coefficient>
  __device__ void add_entries(float (&sum)[4][4], float& along, int i, int j, int64_t depth, const Element& element,
                              const Coefficient& coefficient) {
    const auto of = [&](int which) {
      const int64_t first = int64_t{which} * kTile;
      return [this, first, &element](int r, int64_t k) { return first + r < n_ ? element(first + r, k) : 0.0f; };
    };
    tile_product<kTile, kAlongDepth>(sum, along, memory_.panels, depth, i == j, of(i), of(j), coefficient);
  }

  // The lower triangle of sum becomes its factor, in memory_.diagonal; z(j) <- L^-1 z(j). Four columns at a time: one
  // thread factors their 4 x 4, the threads below divide by it, all to the right take their product off.
  template <class Least>
  __device__ void factor_diagonal(float (&sum)[4][4], int j, const Least& least) {
    const Shared<float> l = memory_.diagonal;
    const int64_t z0 = int64_t{j} * kTile;
    __syncthreads();  // z is complete; the diagonal tile before has been read
#pragma unroll 1
    for (int p = 0; p < kTile; p += 4) {
      if (place_.row == p && place_.col == p) factor_corner(sum, p, z0, least);
      __syncthreads();
      if (place_.col == p && place_.row > p) {
        divide(sum, p);
#pragma unroll
        for (int c = 0; c < 4; ++c) {
#pragma unroll
          for (int r = 0; r < 4; ++r) l[(p + c) * kStride + place_.row + r] = sum[r][c];
        }
      }
      if (thread_ == 0) {
        for (int c = 0; c < 4; ++c) {
          float value = memory_.z[z0 + p + c];
          for (int k = 0; k < c; ++k) value -= l[(p + k) * kStride + p + c] * memory_.z[z0 + p + k];
          memory_.z[z0 + p + c] = value * memory_.inverse[p + c];
        }
      }
      __syncthreads();
      if (place_.col > p && place_.row >= place_.col) {
        subtract_columns(sum, l + p * kStride, l + p * kStride);
      }
      if (thread_ >= p + 4 && thread_ < kTile) {
        float value = memory_.z[z0 + thread_];
#pragma unroll
        for (int k = 0; k < 4; ++k) value -= l[(p + k) * kStride + thread_] * memory_.z[z0 + p + k];
        memory_.z[z0 + thread_] = value;
      }
    }
    __syncthreads();
  }

  template <class Least>
  __device__ void factor_corner(float (&sum)[4][4], int p, int64_t z0, const Least& least) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      float pivot = sum[c][c];
      if (!(pivot > least(z0 + p + c))) {  // NaN too
        memory_.broken[0] = 1;
        pivot = 1.0f;
      }
      const float root = tile_sqrt(pivot), inverse = tile_rsqrt(pivot);
      memory_.inverse[p + c] = inverse;
      sum[c][c] = root;
#pragma unroll
      for (int r = c + 1; r < 4; ++r) sum[r][c] *= inverse;
#pragma unroll
      for (int k = c + 1; k < 4; ++k) {
#pragma unroll
        for (int r = k; r < 4; ++r) sum[r][k] -= sum[r][c] * sum[k][c];
      }
#pragma unroll
      for (int r = c; r < 4; ++r) memory_.diagonal[(p + c) * kStride + p + r] = sum[r][c];
    }
  }

  // sum -= left right^T over four columns, kStride apart.
  __device__ void subtract_columns(float (&sum)[4][4], Shared<float> left, Shared<float> right) const {
    const Shared<float4> u = left.as<float4>(), v = right.as<float4>();
#pragma unroll 1
    for (int k = 0; k < 4; ++k) {
      const float4 a4 = u[(k * kStride + place_.row) / 4], b4 = v[(k * kStride + place_.col) / 4];
      const float a[4] = {a4.x, a4.y, a4.z, a4.w}, b[4] = {b4.x, b4.y, b4.z, b4.w};
#pragma unroll
      for (int r = 0; r < 4; ++r) {
#pragma unroll
        for (int c = 0; c < 4; ++c) sum[r][c] -= a[r] * b[c];
      }
    }
  }

  // The thread's rows of columns p.. are divided by the corner's factor.
  __device__ void divide(float (&sum)[4][4], int p) const {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const float inverse = memory_.inverse[p + c];
#pragma unroll
      for (int r = 0; r < 4; ++r) {
#pragma unroll
        for (int k = 0; k < c; ++k) sum[r][c] -= sum[r][k] * float{memory_.diagonal[(p + k) * kStride + p + c]};
        sum[r][c] *= inverse;
      }
    }
  }

  // out <- sum L(j, j)^-T. Each four columns cross through one of two buffers, where the panels were.
  __device__ void solve_below(float (&sum)[4][4], float* out) {
    const Shared<float> l = memory_.diagonal;
    const Shared<float> cross = memory_.panels;
    __syncthreads();  // the panels have been read
#pragma unroll 1
    for (int p = 0; p < kTile; p += 4) {
      const int buffer = p / 4 % 2 * 4 * kStride;
      if (place_.col == p) {
        divide(sum, p);
#pragma unroll
        for (int c = 0; c < 4; ++c) {
#pragma unroll
          for (int r = 0; r < 4; ++r) {
            cross[buffer + c * kStride + place_.row + r] = sum[r][c];
            out[(p + c) * kTile + place_.row + r] = sum[r][c];
          }
        }
      }
      __syncthreads();
      if (place_.col > p) {
        subtract_columns(sum, cross + buffer, l + p * kStride);
      }
    }
  }

  __device__ void keep_diagonal(int j) const {
    float* out = tile(j, j);
#pragma unroll 1
    for (int at = thread_; at < kTile * kTile; at += kThreads) {
      const int c = at / kTile, r = at % kTile;
      if (r >= c) out[at] = memory_.diagonal[c * kStride + r];
    }
  }

  // z <- L^-T z.
  __device__ void substitute_back() {
    for (int j = tiles_ - 1; j >= 0; --j) {
      if (j < tiles_ - 1) fetch_diagonal(j);
      __syncthreads();
      if (thread_ < 32) substitute_diagonal(int64_t{j} * kTile);
      __syncthreads();
      // A warp per column of the tiles left of it: the factor's columns are contiguous.
      const int lane = thread_ % 32;
#pragma unroll 1
      for (int64_t c = thread_ / 32; c < int64_t{j} * kTile; c += kThreads / 32) {
        const float* column = tile(j, 0) + c * kTile;
        float product = 0.0f;
#pragma unroll 1
        for (int r = lane; r < kTile; r += 32) product += column[r] * memory_.z[int64_t{j} * kTile + r];
        product = Warp::sum(product);
        if (lane == 0) memory_.z[c] -= product;
      }
    }
    __syncthreads();
  }

  __device__ void fetch_diagonal(int j) {
    const float* in = tile(j, j);
#pragma unroll 1
    for (int at = thread_; at < kTile * kTile; at += kThreads) {
      const int c = at / kTile, r = at % kTile;
      if (r >= c) memory_.diagonal[c * kStride + r] = in[at];
      if (r == c) memory_.inverse[c] = tile_reciprocal(in[at]);
    }
  }

  // One warp, each lane holding kTile / 32 unknowns: a step is a shuffle and an independent load, no barrier.
  __device__ void substitute_diagonal(int64_t z0) {
    constexpr int kHeld = kTile / 32;
    float held[kHeld];
#pragma unroll
    for (int h = 0; h < kHeld; ++h) held[h] = memory_.z[z0 + thread_ + 32 * h];
#pragma unroll
    for (int h = kHeld - 1; h >= 0; --h) {
#pragma unroll 1
      for (int r = 31; r >= 0; --r) {
        const int row = 32 * h + r;
        const float value = Warp::from(held[h], r) * memory_.inverse[row];
#pragma unroll
        for (int g = 0; g <= h; ++g) {
          const int c = thread_ + 32 * g;
          if (c < row) held[g] -= memory_.diagonal[c * kStride + row] * value;
          if (c == row) held[g] = value;
        }
      }
    }
#pragma unroll
    for (int h = 0; h < kHeld; ++h) memory_.z[z0 + thread_ + 32 * h] = held[h];
  }

  const AlsSystemMemory memory_;
  float* factor_;
  const int64_t n_;
  const int tiles_;
  const TilePlace<kTile> place_;
  const int thread_ = static_cast<int>(threadIdx.x);
};

}  // namespace recsys_fast
