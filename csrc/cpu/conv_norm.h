// Layer norm with relu in one pass over padded rows. It keeps the normed row and not what it was made from, unlike
// cpu/norm_rows.h: the convolution before it would have to be done again.
#pragma once

#include "cpu/norm_rows.h"

namespace recsys_fast {

RF_INLINE Vec scaled_row(Vec normal, const float* gamma, const float* beta, int64_t k) {
  return normal * load(gamma + k) + load(beta + k);
}

// normal (d) = (c - mean) / std, c (padded(d)) <- relu(normal gamma + beta). Returns 1 / std.
inline float norm_relu(float* normal, float* c, const float* gamma, const float* beta, int64_t d, float eps) {
  const auto [mean, inverse] = measure_row(c, d, eps);
  for (int64_t k = 0; k < d; k += kLanes) {
    const Vec v = (load(c + k) - mean) * inverse;
    store_up_to(normal + k, v, d - k);
    store(c + k, max(scaled_row(v, gamma, beta, k), Vec{}));  // gamma and beta are 0 behind d
  }
  return inverse;
}

// relu(normal gamma + beta) once more, into a padded row.
inline void scale_relu(float* out, const float* normal, const float* gamma, const float* beta, int64_t d) {
  for (int64_t k = 0; k < d; k += kLanes) {
    store(out + k, max(scaled_row(load_up_to(normal + k, d - k), gamma, beta, k), Vec{}));
  }
}

// g (padded(d)): gradient after norm and relu -> gradient before them; adds to dgamma, dbeta, db (padded(d)).
inline void norm_relu_back(float* g, float* dgamma, float* dbeta, float* db, const float* normal, float inverse,
                           const float* gamma, const float* beta, int64_t d) {
  Vec sum = {}, along = {};
  for (int64_t k = 0; k < d; k += kLanes) {
    const Vec v = load_up_to(normal + k, d - k);
    const Vec gradient = scaled_row(v, gamma, beta, k) > 0.0f ? load(g + k) : Vec{};
    store(dgamma + k, load(dgamma + k) + gradient * v);
    store(dbeta + k, load(dbeta + k) + gradient);
    const Vec inner = gradient * load(gamma + k);
    sum += inner;
    along += inner * v;
    store(g + k, inner);
  }
  const float mean = reduce_add(sum) / static_cast<float>(d), slope = reduce_add(along) / static_cast<float>(d);
  for (int64_t k = 0; k < d; k += kLanes) {
    const Vec v = load_up_to(normal + k, d - k);
    const Vec gradient = keep_first(inverse * (load(g + k) - mean - v * slope), d - k);
    store(g + k, gradient);
    store(db + k, load(db + k) + gradient);
  }
}

}  // namespace recsys_fast
