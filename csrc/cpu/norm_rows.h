// Layer norm of rows of any width d. Arrays of parameters and sums have padded(d) elements, zeros behind d.
#pragma once

#include <cmath>

#include "core/row_ends.h"

namespace recsys_fast {

struct RowStats {
  float mean, scale;  // scale = 1 / sqrt(variance + eps)
};

// out = gamma unit(x) + beta.
RF_INLINE void apply_norm(float* out, const float* x, RowStats stats, const float* gamma, const float* beta,
                          int64_t d) {
  for (int64_t k = 0; k < d; k += kLanes) {
    const Vec unit = (load_up_to(x + k, d - k) - stats.mean) * stats.scale;
    store_up_to(out + k, load(gamma + k) * unit + load(beta + k), d - k);
  }
}

RF_INLINE RowStats measure_row(const float* x, int64_t d, float eps) {
  Vec sum = {}, square = {};
  for (int64_t k = 0; k < d; k += kLanes) sum += load_up_to(x + k, d - k);
  const float mean = reduce_add(sum) / static_cast<float>(d);
  for (int64_t k = 0; k < d; k += kLanes) {
    const Vec off = keep_first(load_up_to(x + k, d - k) - mean, d - k);
    square += off * off;
  }
  return {mean, 1.0f / std::sqrt(reduce_add(square) / static_cast<float>(d) + eps)};
}

// dx = the gradient of x for dy, plus `add` where that is not null; dgamma, dbeta (padded) += theirs. dx may be dy.
RF_INLINE void norm_row_back(float* dx, const float* dy, const float* x, RowStats stats, const float* gamma,
                             float* dgamma, float* dbeta, const float* add, int64_t d) {
  Vec plain = {}, along = {};
  for (int64_t k = 0; k < d; k += kLanes) {
    const Vec unit = (load_up_to(x + k, d - k) - stats.mean) * stats.scale, gradient = load_up_to(dy + k, d - k);
    store(dgamma + k, load(dgamma + k) + gradient * unit);
    store(dbeta + k, load(dbeta + k) + gradient);
    const Vec part = gradient * load(gamma + k);
    plain += part;
    along += part * unit;
  }
  const float share = 1.0f / static_cast<float>(d);
  const float offset = reduce_add(plain) * share, slope = reduce_add(along) * share;
  for (int64_t k = 0; k < d; k += kLanes) {
    const Vec unit = (load_up_to(x + k, d - k) - stats.mean) * stats.scale;
    Vec out = stats.scale * (load_up_to(dy + k, d - k) * load(gamma + k) - offset - unit * slope);
    if (add != nullptr) out += load_up_to(add + k, d - k);
    store_up_to(dx + k, out, d - k);
  }
}

// A row of NV vectors in registers: its last vector has `tail` elements and zeros.
template <int NV>
RF_INLINE void load_row(Vec (&row)[NV], const float* p, int64_t tail) {
#pragma GCC unroll 8
  for (int v = 0; v < NV - 1; ++v) row[v] = load(p + v * kLanes);
  const float* last = p + (NV - 1) * kLanes;
  row[NV - 1] = tail == kLanes ? load(last) : load_first(last, tail);
}
template <int NV>
RF_INLINE void store_row(float* p, const Vec (&row)[NV], int64_t tail) {
#pragma GCC unroll 8
  for (int v = 0; v < NV - 1; ++v) store(p + v * kLanes, row[v]);
  store_first(p + (NV - 1) * kLanes, row[NV - 1], tail);
}

// Rows (n, d) that are this far apart.
struct RowsAt {
  float* data;
  int64_t row;
};
struct ConstRowsAt {
  const float* data;
  int64_t row;
};

template <int NV>
inline void norm_rows_of(RowsAt out, float* stats, ConstRowsAt x, const float* gamma, const float* beta, float eps,
                         int64_t n, int64_t d) {
  const int64_t tail = d - (NV - 1) * kLanes;
  const Vec lanes = keep_first(broadcast(1.0f), tail);
  const float share = 1.0f / static_cast<float>(d);
  Vec scale[NV], shift[NV], row[NV];
  load_row(scale, gamma, kLanes);
  load_row(shift, beta, kLanes);
  for (int64_t i = 0; i < n; ++i) {
    load_row(row, x.data + i * x.row, tail);
    Vec sum = row[0];
#pragma GCC unroll 8
    for (int v = 1; v < NV; ++v) sum += row[v];
    const float mean = reduce_add(sum) * share;
    Vec square = {};
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      row[v] -= mean;
      if (v == NV - 1) row[v] *= lanes;
      square += row[v] * row[v];
    }
    const float factor = 1.0f / std::sqrt(reduce_add(square) * share + eps);
    stats[2 * i] = mean;
    stats[2 * i + 1] = factor;
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) row[v] = scale[v] * (row[v] * factor) + shift[v];
    store_row(out.data + i * out.row, row, tail);
  }
}

// out = gamma unit(x) + beta and stats (n, 2) of n rows. Widths of usual models have loops of their own.
inline void norm_rows(RowsAt out, float* stats, ConstRowsAt x, const float* gamma, const float* beta, float eps,
                      int64_t n, int64_t d) {
  switch (padded(d) / kLanes) {
    case 4:
      return norm_rows_of<4>(out, stats, x, gamma, beta, eps, n, d);
    case 7:
      return norm_rows_of<7>(out, stats, x, gamma, beta, eps, n, d);
    case 8:
      return norm_rows_of<8>(out, stats, x, gamma, beta, eps, n, d);
  }
  for (int64_t i = 0; i < n; ++i) {
    const RowStats row = measure_row(x.data + i * x.row, d, eps);
    stats[2 * i] = row.mean;
    stats[2 * i + 1] = row.scale;
    apply_norm(out.data + i * out.row, x.data + i * x.row, row, gamma, beta, d);
  }
}

// The same with the stats of before.
inline void renorm_rows(RowsAt out, const float* stats, ConstRowsAt x, const float* gamma, const float* beta, int64_t n,
                        int64_t d) {
  for (int64_t i = 0; i < n; ++i) {
    apply_norm(out.data + i * out.row, x.data + i * x.row, {stats[2 * i], stats[2 * i + 1]}, gamma, beta, d);
  }
}

template <int NV>
inline void norm_rows_back_of(RowsAt dx, ConstRowsAt dy, ConstRowsAt x, const float* stats, const float* gamma,
                              float* dgamma, float* dbeta, ConstRowsAt add, int64_t n, int64_t d) {
  const int64_t tail = d - (NV - 1) * kLanes;
  const float share = 1.0f / static_cast<float>(d);
  Vec scale[NV], gammas[NV], betas[NV], row[NV], gradient[NV];
  load_row(scale, gamma, kLanes);
  load_row(gammas, dgamma, kLanes);
  load_row(betas, dbeta, kLanes);
  for (int64_t i = 0; i < n; ++i) {
    const float mean = stats[2 * i], factor = stats[2 * i + 1];
    load_row(row, x.data + i * x.row, tail);
    load_row(gradient, dy.data + i * dy.row, tail);
    Vec plain = {}, along = {};
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      row[v] = (row[v] - mean) * factor;
      gammas[v] += gradient[v] * row[v];
      betas[v] += gradient[v];
      gradient[v] *= scale[v];
      plain += gradient[v];
      along += gradient[v] * row[v];
    }
    const float offset = reduce_add(plain) * share, slope = reduce_add(along) * share;
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) gradient[v] = factor * (gradient[v] - offset - row[v] * slope);
    if (add.data != nullptr) {
      load_row(row, add.data + i * add.row, tail);
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) gradient[v] += row[v];
    }
    store_row(dx.data + i * dx.row, gradient, tail);
  }
  store_row(dgamma, gammas, kLanes);
  store_row(dbeta, betas, kLanes);
}

// dx = the gradient of n rows x for dy, plus `add` where that is not null; dgamma, dbeta += theirs. dx may be dy.
inline void norm_rows_back(RowsAt dx, ConstRowsAt dy, ConstRowsAt x, const float* stats, const float* gamma,
                           float* dgamma, float* dbeta, ConstRowsAt add, int64_t n, int64_t d) {
  switch (padded(d) / kLanes) {
    case 4:
      return norm_rows_back_of<4>(dx, dy, x, stats, gamma, dgamma, dbeta, add, n, d);
    case 7:
      return norm_rows_back_of<7>(dx, dy, x, stats, gamma, dgamma, dbeta, add, n, d);
    case 8:
      return norm_rows_back_of<8>(dx, dy, x, stats, gamma, dgamma, dbeta, add, n, d);
  }
  for (int64_t i = 0; i < n; ++i) {
    norm_row_back(dx.data + i * dx.row, dy.data + i * dy.row, x.data + i * x.row, {stats[2 * i], stats[2 * i + 1]},
                  gamma, dgamma, dbeta, add.data == nullptr ? nullptr : add.data + i * add.row, d);
  }
}

}  // namespace recsys_fast
