// GEMM, SYRK and Cholesky micro-kernels against float64 loops, at every width from 1 to 130 and at large ones.
// An error may be a small multiple of what plain float32 loops make on the same case (at least some roundings of the
// largest number, since a plain loop over one or two terms is exact). Canaries around each result catch stray writes.
#include <algorithm>

#include "check.h"
#include "core/cholesky.h"

namespace recsys_fast {
namespace {

using test::uniform;
using test::worst;

constexpr float kCanary = 12345.0f;
constexpr double kRounding = 6e-8;  // half a unit in the last place of float32

std::vector<int64_t> widths() {
  std::vector<int64_t> out;
  for (int64_t d = 1; d <= 130; ++d) out.push_back(d);
  return out;
}

double bound(double plain_error, double largest) { return 4.0 * plain_error + 4.0 * kRounding * largest; }

double largest(const std::vector<double>& x) {
  double out = 0.0;
  for (const double v : x) out = std::max(out, std::abs(v));
  return out;
}

// out (n_i, n_j) = sum_k a[k * a_k + i * a_i] b[k * n_j + j], accumulated in T.
template <class T>
std::vector<T> product(const std::vector<float>& a, int64_t a_i, int64_t a_k, const std::vector<float>& b, int64_t n_i,
                       int64_t n_j, int64_t n_k) {
  std::vector<T> out(static_cast<size_t>(n_i * n_j));
  for (int64_t i = 0; i < n_i; ++i) {
    for (int64_t k = 0; k < n_k; ++k) {
      const T left = a[static_cast<size_t>(k * a_k + i * a_i)];
      for (int64_t j = 0; j < n_j; ++j) {
        out[static_cast<size_t>(i * n_j + j)] += left * static_cast<T>(b[static_cast<size_t>(k * n_j + j)]);
      }
    }
  }
  return out;
}

void check_gemm(int64_t n_i, int64_t n_j, int64_t n_k) {
  const auto a = uniform(n_i * n_k, 1), b = uniform(n_k * n_j, 2);
  const auto exact = product<double>(a, n_k, 1, b, n_i, n_j, n_k);
  const double plain = worst(product<float>(a, n_k, 1, b, n_i, n_j, n_k), exact);
  const int64_t row = n_j + kLanes;  // a gap of canaries behind each row
  std::vector<float> c(static_cast<size_t>(n_i * row), kCanary), inside(exact.size());
  for (const bool accumulate : {false, true}) {
    gemm(c.data(), row, a.data(), n_k, b.data(), n_j, n_i, n_j, n_k, accumulate);
    for (int64_t i = 0; i < n_i; ++i) {
      for (int64_t j = 0; j < row; ++j) {
        const float got = c[static_cast<size_t>(i * row + j)];
        if (j < n_j) inside[static_cast<size_t>(i * n_j + j)] = accumulate ? got / 2 : got;
        if (j >= n_j) CHECK_AT(got == kCanary, n_k);
      }
    }
    CHECK_AT(worst(inside, exact) <= bound(plain, largest(exact)), n_k);
  }
}

RF_CASE(gemm_is_right_at_every_width) {
  for (const int64_t d : widths()) {
    check_gemm(d, padded(d), d);
    check_gemm(7, padded(d), 3);
    check_gemm(d, kLanes, 300);
  }
}

RF_CASE(gemm_is_right_when_long) {
  check_gemm(13, padded(70), 2048);
  check_gemm(2050, kLanes, 64);
  check_gemm(5, padded(2047), 33);
}

RF_CASE(gemm_of_no_terms_is_zero) {
  std::vector<float> c(static_cast<size_t>(3 * kLanes), kCanary);
  const float none = 0.0f;
  gemm(c.data(), kLanes, &none, 0, &none, kLanes, 3, kLanes, 0, false);
  for (const float v : c) CHECK(v == 0.0f);
}

void check_syrk(int64_t d, int64_t n_k, float sign) {
  const int64_t n = padded(d), row = n + kLanes;
  const auto a = uniform(n_k * n, 3);
  const auto exact = product<double>(a, 1, n, a, n, n, n_k);
  const double plain = worst(product<float>(a, 1, n, a, n, n, n_k), exact);
  std::vector<float> c(static_cast<size_t>(n * row), kCanary);
  for (const bool accumulate : {false, true}) {
    syrk_upper(c.data(), row, a.data(), n, n, n_k, sign, accumulate);
    const float scale = sign * (accumulate ? 2.0f : 1.0f);
    double error = 0.0;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < row; ++j) {
        const float got = c[static_cast<size_t>(i * row + j)];
        // whole tiles left of the diagonal stay untouched
        if (j >= n || j < i / kTileRows * kTileRows / kLanes * kLanes) CHECK_AT(got == kCanary, d);
        if (j < i || j >= n) continue;
        error = std::max(error, std::abs(static_cast<double>(got / scale) - exact[static_cast<size_t>(i * n + j)]));
      }
    }
    CHECK_AT(error <= bound(plain, largest(exact)), d);
  }
}

RF_CASE(syrk_is_right_at_every_width) {
  for (const int64_t d : widths()) {
    check_syrk(d, d, 1.0f);
    check_syrk(d, 5, -1.0f);
  }
  check_syrk(512, 40, 1.0f);
}

// A symmetric positive definite system of width d with n_rhs right-hand sides, as the solvers of the models lay it out.
struct System {
  int64_t d, n, n_rhs, row;
  std::vector<float> a;  // (n, n + padded(n_rhs)): the matrix (identity in its padding), then the right-hand sides

  System(int64_t width, int64_t rhs)
      : d(width), n(padded(width)), n_rhs(rhs), row(n + padded(rhs)), a(static_cast<size_t>(n * row)) {
    const int64_t n_k = d + 3;
    const auto g = uniform(n_k * d, 5), b = uniform(d * n_rhs, 6);
    for (int64_t i = 0; i < n; ++i) at(i, i) = 1.0f;
    for (int64_t i = 0; i < d; ++i) at(i, i) = 0.1f * static_cast<float>(d);
    for (int64_t k = 0; k < n_k; ++k) {
      for (int64_t i = 0; i < d; ++i) {
        const float left = g[static_cast<size_t>(k * d + i)];
        for (int64_t j = i; j < d; ++j) at(i, j) += left * g[static_cast<size_t>(k * d + j)];
      }
    }
    for (int64_t i = 0; i < d; ++i) {
      for (int64_t r = 0; r < n_rhs; ++r) at(i, n + r) = b[static_cast<size_t>(i * n_rhs + r)];
    }
  }
  float& at(int64_t i, int64_t j) { return a[static_cast<size_t>(i * row + j)]; }
  float symmetric(int64_t i, int64_t j) { return i <= j ? at(i, j) : at(j, i); }

  // Largest |A x - b| of right-hand side r, in float64.
  double residual(const std::vector<float>& x, int64_t r) {
    double out = 0.0;
    for (int64_t i = 0; i < d; ++i) {
      double sum = -static_cast<double>(at(i, n + r));
      for (int64_t j = 0; j < d; ++j) sum += static_cast<double>(symmetric(i, j)) * x[static_cast<size_t>(j)];
      if (!(std::abs(sum) <= out)) out = std::abs(sum);
    }
    return out;
  }
};

// x of right-hand side r by plain float32 loops.
std::vector<float> plain_solution(System system, int64_t r) {
  const int64_t d = system.d;
  std::vector<float> x(static_cast<size_t>(d));
  for (int64_t i = 0; i < d; ++i) {  // U^T U = A and U^T y = b, row by row
    float y = system.at(i, system.n + r);
    for (int64_t k = 0; k < i; ++k) y -= system.at(k, i) * x[static_cast<size_t>(k)];
    for (int64_t j = i; j < d; ++j) {
      float sum = system.at(i, j);
      for (int64_t k = 0; k < i; ++k) sum -= system.at(k, i) * system.at(k, j);
      system.at(i, j) = j == i ? std::sqrt(sum) : sum / system.at(i, i);
    }
    x[static_cast<size_t>(i)] = y / system.at(i, i);
  }
  for (int64_t i = d - 1; i >= 0; --i) {
    float sum = x[static_cast<size_t>(i)];
    for (int64_t j = i + 1; j < d; ++j) sum -= system.at(i, j) * x[static_cast<size_t>(j)];
    x[static_cast<size_t>(i)] = sum / system.at(i, i);
  }
  return x;
}

void check_solve(int64_t d, int64_t n_rhs) {
  System original(d, n_rhs);
  System factored = original;
  std::vector<float> inv(static_cast<size_t>(factored.n)), x(static_cast<size_t>(factored.n));
  CHECK_AT(cholesky_upper(factored.a.data(), factored.row, factored.n, factored.row, inv.data()), d);
  for (int64_t r = 0; r < n_rhs; ++r) {
    for (int64_t i = 0; i < factored.n; ++i) x[static_cast<size_t>(i)] = factored.at(i, factored.n + r);
    solve_upper(factored.a.data(), factored.row, inv.data(), x.data(), factored.n);
    for (int64_t i = d; i < factored.n; ++i) CHECK_AT(x[static_cast<size_t>(i)] == 0.0f, d);  // padding stays out
    const double plain = original.residual(plain_solution(original, r), r);
    CHECK_AT(original.residual(x, r) <= bound(plain, 1.0), d);  // right-hand sides are below 1
  }
}

RF_CASE(cholesky_solves_at_every_width) {
  for (const int64_t d : widths()) check_solve(d, d % 3 + 1);
}

RF_CASE(cholesky_solves_when_large) {
  check_solve(300, 2);
  check_solve(513, 1);
}

RF_CASE(cholesky_solves_2048) {
  // The plain loops would take a minute under a sanitizer: here the textbook bound d * rounding * |A| |x| serves.
  System original(2048, 1);
  System factored = original;
  std::vector<float> inv(static_cast<size_t>(factored.n)), x(static_cast<size_t>(factored.n));
  CHECK(cholesky_upper(factored.a.data(), factored.row, factored.n, factored.row, inv.data()));
  for (int64_t i = 0; i < factored.n; ++i) x[static_cast<size_t>(i)] = factored.at(i, factored.n);
  solve_upper(factored.a.data(), factored.row, inv.data(), x.data(), factored.n);
  double norm_a = 0.0, norm_x = 0.0;
  for (int64_t i = 0; i < original.d; ++i) {
    double sum = 0.0;
    for (int64_t j = 0; j < original.d; ++j) sum += std::abs(original.symmetric(i, j));
    norm_a = std::max(norm_a, sum);
    norm_x = std::max(norm_x, std::abs(static_cast<double>(x[static_cast<size_t>(i)])));
  }
  CHECK(original.residual(x, 0) <= static_cast<double>(original.d) * kRounding * norm_a * norm_x);
}

RF_CASE(cholesky_names_a_matrix_that_is_not_positive) {
  for (const int64_t d : {1, 5, 16, 17, 40, 100}) {
    for (const int64_t bad : {int64_t{0}, d / 2, d - 1}) {
      for (const float value : {-1.0f, 0.0f, std::nanf("")}) {
        System system(d, 1);
        std::vector<float> inv(static_cast<size_t>(system.n));
        for (int64_t j = bad; j < d; ++j) system.at(bad, j) = 0.0f;
        for (int64_t i = 0; i < bad; ++i) system.at(i, bad) = 0.0f;
        system.at(bad, bad) = value;
        CHECK_AT(!cholesky_upper(system.a.data(), system.row, system.n, system.row, inv.data()), d);
      }
    }
  }
}

}  // namespace
}  // namespace recsys_fast
