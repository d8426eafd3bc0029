#include "cpu/topk_panels.h"

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "core/thread_pool.h"

namespace recsys_fast {
namespace {

constexpr int kKeyBits = 15;  // of a positive float's leading 16 bits: the exponent and 7 bits of the mantissa

uint32_t bucket(float key) { return (1u << kKeyBits) - 1 - (std::bit_cast<uint32_t>(key) >> 16); }

}  // namespace

void sort_descending(int32_t* order, const float* keys, int64_t n) {
  std::vector<int64_t> start((size_t{1} << kKeyBits) + 1, 0);
  for (int64_t i = 0; i < n; ++i) ++start[bucket(keys[i]) + 1];
  for (size_t b = 1; b < start.size(); ++b) start[b] += start[b - 1];
  for (int64_t i = 0; i < n; ++i) order[start[bucket(keys[i])]++] = static_cast<int32_t>(i);
}

float row_norm(const float* row, int64_t d) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  double square = dot(row, row, d);
  if (!(square > 1e-25 && square < 1e35)) {  // close to the ends of float's range
    square = 0.0;
    for (int64_t k = 0; k < d; ++k) square += static_cast<double>(row[k]) * row[k];
  }
  const double norm = std::sqrt(square * (1.0 + 0x1p-22 * static_cast<double>(d)));
  return norm < kInfinity ? static_cast<float>(norm) : kInfinity;
}

void pack_panel(float* panel, Rows<const float> items, const int32_t* ids, int64_t n) {
  for (int64_t j = 0; j < n; ++j) copy_strided(panel + j, items.row(ids[j]), items.d, kPanel, 1);
  for (int64_t k = 0; k < items.d; ++k) std::fill(panel + k * kPanel + n, panel + (k + 1) * kPanel, 0.0f);
}

ItemPanels::ItemPanels(Rows<const float> items, const int32_t* candidates, int64_t n_items, int n_threads)
    : n(n_items), n_panels((n_items + kPanel - 1) / kPanel), d(items.d) {
  const size_t n_places = static_cast<size_t>(n_panels * kPanel);
  memory_.reset(Arena::padded<float>(n_places * static_cast<size_t>(d)) + Arena::padded<int32_t>(n_places) +
                Arena::padded<float>(static_cast<size_t>(n_panels)));
  data_ = memory_.take<float>(n_places * static_cast<size_t>(d));
  ids_ = memory_.take<int32_t>(n_places);
  bounds_ = memory_.take<float>(static_cast<size_t>(n_panels));

  std::vector<float> norms(static_cast<size_t>(n));
  parallel_for(n, 4096, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      norms[static_cast<size_t>(i)] = row_norm(items.row(candidates == nullptr ? i : candidates[i]), d);
    }
  });
  sort_descending(ids_, norms.data(), n);
  float bound = 0.0f;
  for (int64_t p = n_panels - 1; p >= 0; --p) {
    for (int64_t j = 0; j < width(p); ++j) bound = std::max(bound, norms[static_cast<size_t>(ids(p)[j])]);
    bounds_[p] = bound;
  }
  for (int64_t i = 0; i < n && candidates != nullptr; ++i) ids_[i] = candidates[ids_[i]];
  for (int64_t i = n; i < n_panels * kPanel; ++i) ids_[i] = -1;
  parallel_for(n_panels, 16, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t p = begin; p < end; ++p) pack_panel(data_ + p * d * kPanel, items, ids(p), width(p));
  });
}

}  // namespace recsys_fast
