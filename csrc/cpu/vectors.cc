// Elementwise and small beside the layers around it: rows, or sequences, are independent of each other.
#include "ops/vectors.h"

#include <algorithm>
#include <cmath>

#include "core/thread_pool.h"
#include "cpu/row_vectors.h"

namespace recsys_fast {
namespace {

// body(row) for n rows of `width` numbers.
template <class Body>
void for_rows(int64_t n, int64_t width, int n_threads, Body&& body) {
  parallel_for(n, grain_rows(width), threads_for(n * width, n_threads), [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) body(t);
  });
}

}  // namespace

template <>
void unit_rows_forward<Cpu>(Rows<float> y, float* scale, const float* x, int n_threads) {
  for_rows(y.n, y.d, n_threads, [&](int64_t t) {
    const float* from = x + t * y.d;
    const float length = std::sqrt(dot(from, from, y.d));
    const float factor = length > 0.0f ? 1.0f / length : 0.0f;
    scale[t] = factor;
    for_vectors(y.d, [&](int64_t c, int64_t n) { store_up_to(y.row(t) + c, load_up_to(from + c, n) * factor, n); });
  });
}

template <>
void unit_rows_backward<Cpu>(Rows<float> dx, const float* dy, const float* y, const float* scale, int n_threads) {
  const int64_t d = dx.d;
  for_rows(dx.n, d, n_threads, [&](int64_t t) {
    const float *given = dy + t * d, *unit = y + t * d, along = dot(given, unit, d);
    for_vectors(d, [&](int64_t c, int64_t n) {
      store_up_to(dx.row(t) + c, (load_up_to(given + c, n) - load_up_to(unit + c, n) * along) * scale[t], n);
    });
  });
}

template <>
void sequence_max_forward<Cpu>(Rows<float> y, int32_t* places, Packed<const float> x, int n_threads) {
  const int64_t d = y.d, mean = x.n_rows / std::max<int64_t>(1, x.n_sequences) + 1;
  for_rows(y.n, mean * d, n_threads, [&](int64_t s) {
    const int64_t begin = x.row_ptr[s], end = x.row_ptr[s + 1];
    float* best = y.row(s);
    int32_t* place = places + s * d;
    std::fill_n(place, d, 0);
    if (begin == end) {
      std::fill_n(best, d, 0.0f);
      return;
    }
    std::copy_n(x.data + begin * d, d, best);
    for (int64_t t = begin + 1; t < end; ++t) {
      const float* row = x.data + t * d;
      for (int64_t c = 0; c < d; ++c) {
        const bool more = row[c] > best[c];
        best[c] = more ? row[c] : best[c];
        place[c] = more ? static_cast<int32_t>(t - begin) : place[c];
      }
    }
  });
}

template <>
void sequence_max_backward<Cpu>(Packed<float> dx, const float* dy, const int32_t* places, int n_threads) {
  const int64_t d = dx.d, mean = dx.n_rows / std::max<int64_t>(1, dx.n_sequences) + 1;
  for_rows(dx.n_sequences, mean * d, n_threads, [&](int64_t s) {
    float* rows = dx.data + dx.row_ptr[s] * d;
    const int64_t length = dx.row_ptr[s + 1] - dx.row_ptr[s];
    std::fill_n(rows, length * d, 0.0f);
    for (int64_t c = 0; c < d && length > 0; ++c) rows[places[s * d + c] * d + c] = dy[s * d + c];
  });
}

template <>
void mixture_forward<Cpu>(float* y, float* w, const float* v, const float* scores, const float* bias,
                          const uint8_t* present, const Mixture& size, int n_threads) {
  const auto [n, k, d] = size;
  for_rows(n, k * d, n_threads, [&, k = k, d = d](int64_t t) {
    const auto score = [&](int64_t m) { return scores[t * k + m] + (bias != nullptr ? bias[m] : 0.0f); };
    const auto there = [&](int64_t m) { return present == nullptr || present[t * k + m] != 0; };
    float largest = -INFINITY, total = 0.0f;
    for (int64_t m = 0; m < k; ++m) largest = there(m) ? std::max(largest, score(m)) : largest;
    float *weights = w + t * k, *out = y + t * d;
    for (int64_t m = 0; m < k; ++m) total += weights[m] = there(m) ? std::exp(score(m) - largest) : 0.0f;
    std::fill_n(out, d, 0.0f);
    for (int64_t m = 0; m < k; ++m) {
      if (!there(m)) continue;
      weights[m] /= total;
      axpy(out, weights[m], v + (t * k + m) * d, d);
    }
  });
}

template <>
void mixture_backward<Cpu>(float* dv, float* dscores, const float* dy, const float* v, const float* w,
                           const Mixture& size, int n_threads) {
  const auto [n, k, d] = size;
  for_rows(n, k * d, n_threads, [&, k = k, d = d](int64_t t) {
    const float *given = dy + t * d, *weights = w + t * k;
    float *slopes = dscores + t * k, mean = 0.0f;
    for (int64_t m = 0; m < k; ++m) {
      slopes[m] = dot(given, v + (t * k + m) * d, d);
      mean += weights[m] * slopes[m];
      float* out = dv + (t * k + m) * d;
      for_vectors(
          d, [&](int64_t c, int64_t rest) { store_up_to(out + c, load_up_to(given + c, rest) * weights[m], rest); });
    }
    for (int64_t m = 0; m < k; ++m) slopes[m] = weights[m] * (slopes[m] - mean);
  });
}

}  // namespace recsys_fast
