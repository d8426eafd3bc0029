#include "ops/optimizer.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/thread_pool.h"
#include "cpu/row_vectors.h"
#include "ops/optimizer_rates.h"

namespace recsys_fast {
namespace {

constexpr int64_t kChunk = int64_t{1} << 14;  // elements of a chunk, and of a partial sum of squares
constexpr int64_t kBlock = 1024;              // elements that are summed in float32
constexpr int64_t kAhead = 4;                 // rows that are asked for before they are needed

// The step of one vector: g the gradient, changes the others. Momentum: whether SGD and Adagrad keep m.
template <OptimizerKind kind, bool momentum>
RF_INLINE void step_vector(Vec& param, Vec g, Vec& m, Vec& v, const OptimizerRates& r) {
  g = g * r.grad_scale + param * r.decay;
  if constexpr (kind == OptimizerKind::kAdam) {
    m = m * r.beta1 + g * r.beta1_rest;
    v = v * r.beta2 + g * g * r.beta2_rest;
    param -= m / (sqrt(v) * r.second + r.eps) * r.lr + param * r.shrink;
    return;
  }
  if constexpr (kind != OptimizerKind::kSgd) {
    v += g * g;
    g = kind == OptimizerKind::kAdagrad ? g / (sqrt(v) + r.eps) : g / sqrt(v + r.eps);
  }
  if constexpr (momentum) g = m = m * r.beta1 + g;
  param -= g * r.lr + param * r.shrink;
}

// Steps of pieces of memory. m and v are null where the kind does not keep them. Loops work on a copy of their own,
// whose rates stay in registers: behind a reference every store could change them.
template <OptimizerKind kind, bool momentum>
struct Stepper {
  static constexpr bool kHasM = kind == OptimizerKind::kAdam || momentum;
  static constexpr bool kHasV = kind != OptimizerKind::kSgd;
  float* param;
  float* m;
  float* v;
  OptimizerRates rates;

  // Elements [begin, begin + n) by grad (n); null: gradients of zero.
  RF_INLINE void step(int64_t begin, int64_t n, const float* grad) const {
    for_vectors(n, [&](int64_t k, int64_t lanes) {
      const int64_t at = begin + k;
      Vec p = load_up_to(param + at, lanes);
      Vec mm = kHasM ? load_up_to(m + at, lanes) : Vec{}, vv = kHasV ? load_up_to(v + at, lanes) : Vec{};
      step_vector<kind, momentum>(p, grad != nullptr ? load_up_to(grad + k, lanes) : Vec{}, mm, vv, rates);
      store_up_to(param + at, p, lanes);
      if (kHasM) store_up_to(m + at, mm, lanes);
      if (kHasV) store_up_to(v + at, vv, lanes);
    });
  }

  // n <= kLanes single elements `at`, ascending.
  RF_INLINE void step_single(const int32_t* at, int64_t n, const float* grad) const {
    const VecInt index = load_first(at, n);
    Vec p = gather(param, index), mm = kHasM ? gather(m, index) : Vec{}, vv = kHasV ? gather(v, index) : Vec{};
    step_vector<kind, momentum>(p, load_up_to(grad, n), mm, vv, rates);
    for (int64_t i = 0; i < n; ++i) {
      param[at[i]] = p[i];
      if (kHasM) m[at[i]] = mm[i];
      if (kHasV) v[at[i]] = vv[i];
    }
  }

  void prefetch_row(int64_t begin, int64_t d) const {
    prefetch(param + begin, 4 * d);
    if (kHasM) prefetch(m + begin, 4 * d);
    if (kHasV) prefetch(v + begin, 4 * d);
  }
};

// use(stepper) with the kind as a constant.
template <class Use>
void with_stepper(float* param, float* m, float* v, const OptimizerForm& form, Use&& use) {
  using Kind = OptimizerKind;
  const OptimizerRates rates = optimizer_rates(form);
  switch (form.kind) {
    case Kind::kSgd:
      if (m != nullptr) return use(Stepper<Kind::kSgd, true>{param, m, v, rates});
      return use(Stepper<Kind::kSgd, false>{param, m, v, rates});
    case Kind::kAdagrad:
      if (m != nullptr) return use(Stepper<Kind::kAdagrad, true>{param, m, v, rates});
      return use(Stepper<Kind::kAdagrad, false>{param, m, v, rates});
    case Kind::kAdagradRoot:
      if (m != nullptr) return use(Stepper<Kind::kAdagradRoot, true>{param, m, v, rates});
      return use(Stepper<Kind::kAdagradRoot, false>{param, m, v, rates});
    case Kind::kAdam:
      return use(Stepper<Kind::kAdam, false>{param, m, v, rates});
  }
}

// Squares of numbers beyond 1.8e19 exceed float32.
double wide_square_sum(const float* x, int64_t n) {
  double sum = 0.0;
  for (int64_t k = 0; k < n; ++k) sum += static_cast<double>(x[k]) * static_cast<double>(x[k]);
  return sum;
}

}  // namespace

template <>
void optimizer_step<Cpu>(float* param, const float* grad, float* m, float* v, int64_t n, const OptimizerForm& form,
                         int n_threads) {
  with_stepper(param, m, v, form, [&](auto stepper) {
    parallel_for(n, kChunk, threads_for(n, n_threads), [&](int64_t begin, int64_t end, int) {
      const auto own = stepper;
      own.step(begin, end - begin, grad + begin);
    });
  });
}

template <>
void optimizer_step_rows<Cpu>(Rows<float> table, float* m, float* v, const int32_t* rows, Rows<const float> drows,
                              bool lazy, const OptimizerForm& form, int n_threads) {
  const int64_t d = table.d, n = drows.n;
  with_stepper(table.data, m, v, form, [&](auto stepper) {
    if (lazy && d == 1) {
      parallel_for(n, kChunk, threads_for(n, n_threads), [&](int64_t begin, int64_t end, int) {
        const auto own = stepper;
        for (int64_t r = begin; r < end; r += kLanes) {
          own.step_single(rows + r, std::min<int64_t>(kLanes, end - r), drows.data + r);
        }
      });
    } else if (lazy) {
      const int64_t grain = std::max<int64_t>(1, grain_rows(d) / 4);
      parallel_for(n, grain, threads_for(n * d, n_threads), [&](int64_t begin, int64_t end, int) {
        const auto own = stepper;
        for (int64_t r = begin; r < end; ++r) {
          if (r + kAhead < n) own.prefetch_row(rows[r + kAhead] * d, d);
          own.step(rows[r] * d, d, drows.row(r));
        }
      });
    } else {
      parallel_for(table.n, grain_rows(d), threads_for(table.n * d, n_threads), [&](int64_t begin, int64_t end, int) {
        const auto own = stepper;
        // Runs of rows without a gradient, and between them the rows that have one.
        int64_t r = std::lower_bound(rows, rows + n, begin) - rows, row = begin;
        while (row < end) {
          const int64_t next = r < n ? std::min<int64_t>(end, rows[r]) : end;
          own.step(row * d, (next - row) * d, nullptr);
          row = next;
          if (row < end) own.step(row++ * d, d, drows.row(r++));
        }
      });
    }
  });
}

template <>
double square_sum<Cpu>(const float* x, int64_t n, int n_threads) {
  std::vector<double> parts(static_cast<size_t>((n + kChunk - 1) / kChunk));
  parallel_for(n, kChunk, threads_for(n, n_threads), [&](int64_t begin, int64_t end, int) {
    double sum = 0.0;
    for (int64_t k = begin; k < end; k += kBlock) {
      const int64_t size = std::min(kBlock, end - k);
      const float squares = dot(x + k, x + k, size);
      sum += std::isfinite(squares) ? static_cast<double>(squares) : wide_square_sum(x + k, size);
    }
    parts[begin / kChunk] = sum;
  });
  double total = 0.0;
  for (const double part : parts) total += part;
  return total;
}

}  // namespace recsys_fast
