#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/simd.h"
#include "core/thread_pool.h"
#include "ops/gram.h"

namespace recsys_fast {
namespace {

constexpr int64_t kBlock = 32;       // rows that one task rotates against another such block
constexpr double kSkip = 1e-10;      // cosine below which a pair counts as orthogonal
constexpr double kConverged = 1e-7;  // convergence is quadratic: the sweep that sees this leaves about 1e-14
constexpr int kMaxSweeps = 40;

double dot64(const double* a, const double* b, int64_t d) {
  typedef double Wide __attribute__((vector_size(kLanes * sizeof(float))));
  constexpr int64_t kWidth = kLanes / 2;
  Wide sum[4] = {};
  int64_t k = 0;
  for (; k + 4 * kWidth <= d; k += 4 * kWidth) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      Wide x, y;
      std::memcpy(&x, a + k + j * kWidth, sizeof x);
      std::memcpy(&y, b + k + j * kWidth, sizeof y);
      sum[j] += x * y;
    }
  }
  const Wide all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
  double out = 0.0;
  for (int j = 0; j < kWidth; ++j) out += all[j];
  for (; k < d; ++k) out += a[k] * b[k];
  return out;
}

// Upper Cholesky factor of the positive definite a (d, d), in place, zeros below the diagonal.
void cholesky64(double* a, int64_t d) {
  for (int64_t k = 0; k < d; ++k) {
    double* row = a + k * d;
    const double inverse = 1.0 / std::sqrt(std::max(row[k], 1e-300));
    for (int64_t j = k; j < d; ++j) row[j] *= inverse;
    std::fill(row, row + k, 0.0);
    for (int64_t i = k + 1; i < d; ++i) {
      const double factor = row[i];
      double* below = a + i * d;
      for (int64_t j = i; j < d; ++j) below[j] -= factor * row[j];
    }
  }
}

// Makes rows p and q of w orthogonal by one plane rotation; norm2 holds squared lengths. Returns |cosine| before.
double rotate_pair(double* w, double* norm2, int64_t d, int64_t p, int64_t q) {
  double *a = w + p * d, *b = w + q * d;
  const double gamma = dot64(a, b, d), cosine = std::abs(gamma) / std::sqrt(norm2[p] * norm2[q]);
  if (!(cosine > kSkip)) return 0.0;
  const double zeta = (norm2[q] - norm2[p]) / (2.0 * gamma);
  const double t = std::copysign(1.0, zeta) / (std::abs(zeta) + std::sqrt(1.0 + zeta * zeta));
  const double c = 1.0 / std::sqrt(1.0 + t * t), s = c * t;
  for (int64_t k = 0; k < d; ++k) {
    const double x = a[k], y = b[k];
    a[k] = c * x - s * y;
    b[k] = s * x + c * y;
  }
  norm2[p] -= t * gamma;
  norm2[q] += t * gamma;
  return cosine;
}

// One sweep over all pairs of rows: pairs inside blocks, then rounds of disjoint block pairs (round-robin), so that the
// order of rotations of every row is fixed whatever the number of threads.
double sweep(double* w, double* norm2, int64_t d, int n_threads) {
  const int64_t n_blocks = (d + kBlock - 1) / kBlock;
  std::vector<double> largest(n_blocks, 0.0);
  const auto end_of = [&](int64_t block) { return std::min(d, (block + 1) * kBlock); };
  parallel_for(n_blocks, 1, n_threads, [&](int64_t block, int64_t, int) {
    for (int64_t p = block * kBlock; p < end_of(block); ++p) {
      norm2[p] = std::max(dot64(w + p * d, w + p * d, d), 1e-300);
    }
    for (int64_t p = block * kBlock; p < end_of(block); ++p) {
      for (int64_t q = p + 1; q < end_of(block); ++q) {
        largest[block] = std::max(largest[block], rotate_pair(w, norm2, d, p, q));
      }
    }
  });
  const int64_t players = n_blocks + n_blocks % 2;  // an odd number of blocks sits out in turn
  for (int64_t round = 0; round + 1 < players; ++round) {
    parallel_for(players / 2, 1, n_threads, [&](int64_t pair, int64_t, int) {
      const auto seat = [&](int64_t s) { return s == 0 ? 0 : (s - 1 + round) % (players - 1) + 1; };
      const int64_t one = seat(pair), two = seat(players - 1 - pair);
      const int64_t i = std::min(one, two), j = std::max(one, two);
      if (j >= n_blocks) return;
      for (int64_t p = i * kBlock; p < end_of(i); ++p) {
        for (int64_t q = j * kBlock; q < end_of(j); ++q) {
          largest[i] = std::max(largest[i], rotate_pair(w, norm2, d, p, q));
        }
      }
    });
  }
  return *std::max_element(largest.begin(), largest.end());
}

}  // namespace

template <>
void gram_eigen<Cpu>(float* vectors, float* values, const float* gram, int64_t d, int n_threads) {
  if (d == 0) return;
  std::vector<double> w(d * d), norm2(d);
  double trace = 0.0;
  for (int64_t i = 0; i < d; ++i) trace += std::max(0.0f, gram[i * d + i]);
  // The shift changes no eigenvector; it keeps a rank-deficient matrix factorable and its null space orthogonal.
  const double shift = std::max(trace * 1e-6, 1e-30);
  for (int64_t i = 0; i < d; ++i) {
    for (int64_t j = 0; j < d; ++j) w[i * d + j] = 0.5 * (double{gram[i * d + j]} + double{gram[j * d + i]});
    w[i * d + i] += shift;
  }
  cholesky64(w.data(), d);
  for (int i = 0; i < kMaxSweeps && sweep(w.data(), norm2.data(), d, n_threads) > kConverged; ++i) {
  }
  std::vector<int64_t> order(d);
  std::iota(order.begin(), order.end(), int64_t{0});
  for (int64_t p = 0; p < d; ++p) norm2[p] = dot64(w.data() + p * d, w.data() + p * d, d);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return norm2[a] > norm2[b]; });
  for (int64_t j = 0; j < d; ++j) {
    const double* row = w.data() + order[j] * d;
    const double* peak = std::max_element(row, row + d, [](double a, double b) { return std::abs(a) < std::abs(b); });
    const double scale = std::copysign(1.0, *peak) / std::sqrt(std::max(norm2[order[j]], 1e-300));
    values[j] = static_cast<float>(std::max(0.0, norm2[order[j]] - shift));
    for (int64_t k = 0; k < d; ++k) vectors[k * d + j] = static_cast<float>(row[k] * scale);
  }
}

}  // namespace recsys_fast
