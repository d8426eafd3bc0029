#include "ops/field_sums.h"

#include <algorithm>

#include "core/arena.h"
#include "core/thread_pool.h"
#include "cpu/row_vectors.h"

namespace recsys_fast {
namespace {

constexpr int64_t kAhead = 8;  // entries whose table rows are asked for before they are needed

int64_t field_of(const FieldSums& how, int32_t feature) { return how.fields == nullptr ? 0 : how.fields[feature]; }

// One row: x (n_fields, k) and sums (d) or null; returns the score. by_field: scratch of a vector per field, so that
// what is added to was stored in one piece; sums in rows of any width would wait for their stores.
float forward_row(float* x, float* sums, float* by_field, int64_t row, const Csr& rows, Rows<const float> table,
                  const FieldSums& how) {
  const int64_t begin = rows.row_ptr[row], end = rows.row_ptr[row + 1], k = how.n_factors(table.d);
  float score = 0.0f;
  Vec products = {};
  for_vectors(k, [&](int64_t c, int64_t lanes) {
    Vec sum = {}, squares = {};
    std::fill_n(by_field, how.n_fields * kLanes, 0.0f);
    for (int64_t e = begin; e < end; ++e) {
      const int32_t feature = rows.col_idx[e];
      if (c == 0 && e + kAhead < rows.row_ptr[rows.n_rows]) prefetch(table.row(rows.col_idx[e + kAhead]), 4 * table.d);
      const float value = rows.values == nullptr ? 1.0f : rows.values[e];
      const Vec part = load_up_to(table.row(feature) + c, lanes) * value;
      float* to = by_field + field_of(how, feature) * kLanes;
      store(to, load(to) + part);
      sum += part;
      squares += part * part;
    }
    for (int64_t f = 0; f < how.n_fields; ++f) store_up_to(x + f * k + c, load(by_field + f * kLanes), lanes);
    if (sums != nullptr) store_up_to(sums + c, sum, lanes);
    products += sum * sum - squares;
  });
  if (how.pairs) score = 0.5f * reduce_add(products);
  if (how.linear) {
    for (int64_t e = begin; e < end; ++e) {
      score += (rows.values == nullptr ? 1.0f : rows.values[e]) * table.row(rows.col_idx[e])[k];
    }
    sums[k] = 1.0f;
  }
  return score;
}

// out (d) = gradient of a feature from its n entries; n_ahead are listed from the first of them on.
void backward_row(float* out, int32_t feature, const int32_t* entries, int64_t n, int64_t n_ahead,
                  const FieldGradients& from, Rows<const float> table, const FieldSums& how) {
  const int64_t d = table.d, k = how.n_factors(d), field = field_of(how, feature);
  const bool scored = how.linear || how.pairs;
  for_vectors(d, [&](int64_t c, int64_t lanes) {
    Vec sum = {};
    float squares = 0.0f;
    for (int64_t i = 0; i < n; ++i) {
      if (c == 0 && i + kAhead < n_ahead) {  // rows lie anywhere in the batch; most often the field is the same
        const int64_t soon = from.entry_rows[entries[i + kAhead]];
        prefetch(from.dx + (soon * how.n_fields + field) * k, 4 * k);
      }
      const int64_t e = entries[i], row = from.entry_rows[e];
      const float value = from.values == nullptr ? 1.0f : from.values[e];
      if (k > c) {
        sum += load_up_to(from.dx + (row * how.n_fields + field) * k + c, std::min(lanes, k - c)) * value;
      }
      if (!scored) continue;
      const float slope = value * from.dscore[row];
      const Vec others = load_up_to(from.sums + row * d + c, lanes);
      if (how.pairs) {
        sum += others * slope;
        squares += value * slope;
      } else if (c + lanes == d) {  // all but the weight's lane are 0
        sum += (others - keep_first(others, lanes - 1)) * slope;
      }
    }
    if (how.pairs && k > c) sum -= load_up_to(table.row(feature) + c, std::min(lanes, k - c)) * squares;
    store_up_to(out + c, sum, lanes);
  });
}

}  // namespace

template <>
void field_sums_forward<Cpu>(float* x, float* sums, float* score, Csr rows, Rows<const float> table,
                             const FieldSums& how, int n_threads) {
  const int64_t d = table.d, wide = how.n_fields * how.n_factors(d);
  const int64_t width = std::max<int64_t>(d, wide);
  parallel_for(rows.n_rows, grain_rows(width), threads_for(rows.n_rows * width, n_threads),
               [&](int64_t begin, int64_t end, int) {
                 Arena& arena = thread_arena();
                 arena.reset(Arena::padded<float>(how.n_fields * kLanes));
                 float* by_field = arena.take<float>(how.n_fields * kLanes);
                 for (int64_t r = begin; r < end; ++r) {
                   float* own = sums == nullptr ? nullptr : sums + r * d;
                   score[r] = forward_row(x + r * wide, own, by_field, r, rows, table, how);
                 }
               });
}

template <>
void field_sums_backward<Cpu>(Rows<float> drows, const int32_t* features, const int64_t* entry_ptr,
                              const int32_t* entries, const FieldGradients& from, Rows<const float> table,
                              const FieldSums& how, int n_threads) {
  const int team = threads_for(drows.n == 0 ? 0 : entry_ptr[drows.n] * drows.d, n_threads);
  parallel_for(drows.n, 32, team, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t first = entry_ptr[t];
      backward_row(drows.row(t), features[t], entries + first, entry_ptr[t + 1] - first, entry_ptr[drows.n] - first,
                   from, table, how);
    }
  });
}

}  // namespace recsys_fast
