#include "cpu/topk_panels.h"

#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "core/thread_pool.h"
#include "cpu/counting_sort.h"

namespace recsys_fast {
namespace {

constexpr int kNormKeys = 1 << 15;  // leading 16 bits of a positive float: its exponent and 7 bits of the mantissa
constexpr int64_t kStratum = 2048;  // items of similar norm that are ordered by direction
constexpr int kItemSigns = 6;

size_t size(int64_t n) { return static_cast<size_t>(n); }

}  // namespace

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

void sort_by_key(int32_t* order, const int32_t* keys, int64_t n, int64_t n_keys) {
  std::vector<int64_t> start(size(n_keys + 1));
  counting_sort(start.data(), n_keys, keys, n, 1, [&](int64_t begin, int64_t end, int64_t* cursors) {
    for (int64_t i = begin; i < end; ++i) order[cursors[keys[i]]++] = static_cast<int32_t>(i);
  });
}

void pack_panel(float* panel, Rows<const float> items, const int32_t* ids, int64_t n) {
  for (int64_t j = 0; j < n; ++j) copy_strided(panel + j, items.row(ids[j]), items.d, kPanel, 1);
  for (int64_t k = 0; k < items.d; ++k) std::fill(panel + k * kPanel + n, panel + (k + 1) * kPanel, 0.0f);
}

ItemPanels::ItemPanels(Rows<const float> items, const int32_t* candidates, int64_t n_items, const Basis& basis,
                       bool with_bytes, int n_threads)
    : n(n_items), n_panels((n_items + kPanel - 1) / kPanel), d(items.d) {
  const int64_t n_places = n_panels * kPanel;
  memory_.reset(Arena::padded<float>(size(n_places * (d + 1))) + Arena::padded<int32_t>(size(n_places)) +
                Arena::padded<float>(size(n_panels)) +
                (with_bytes ? Arena::padded<int32_t>(size(n_places * byte_words(d))) : 0) +
                (with_bytes ? Arena::padded<ByteBounds>(size(n_panels)) : 0));
  data_ = memory_.take<float>(size(n_places * (d + 1)));
  ids_ = memory_.take<int32_t>(size(n_places));
  bounds_ = memory_.take<float>(size(n_panels));
  words_ = with_bytes ? memory_.take<int32_t>(size(n_places * byte_words(d))) : nullptr;
  byte_bounds_ = with_bytes ? memory_.take<ByteBounds>(size(n_panels)) : nullptr;
  arrange(items, candidates, basis, n_threads);
  parallel_for(n_panels, 16, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t p = begin; p < end; ++p) {
      pack(items, basis, p);
      if (with_bytes) byte_bounds_[p] = pack_bytes(words_ + p * byte_words(d) * kPanel, panel(p), d, kPanel);
    }
  });
}

// ids_ and bounds_: by norm to about 1 %, within a stratum by the signs of the leading coordinates.
void ItemPanels::arrange(Rows<const float> items, const int32_t* candidates, const Basis& basis, int n_threads) {
  const auto item = [&](int64_t i) { return candidates == nullptr ? static_cast<int32_t>(i) : candidates[i]; };
  std::vector<float> norms(size(n));
  std::vector<int32_t> keys(size(n)), signs(size(n), 0), by_norm(size(n));
  parallel_for(n, 4096, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      norms[size(i)] = row_norm(items.row(item(i)), d);
      keys[size(i)] = kNormKeys - 1 - (std::bit_cast<int32_t>(norms[size(i)]) >> 16);
      if (basis.rotates()) signs[size(i)] = basis.signs(items.row(item(i)), kItemSigns);
    }
  });
  sort_by_key(by_norm.data(), keys.data(), n, kNormKeys);
  for (int64_t i = 0; i < n; ++i)
    keys[size(i)] = static_cast<int32_t>((i / kStratum) << kItemSigns) | signs[size(by_norm[size(i)])];
  sort_by_key(ids_, keys.data(), n, ((n - 1) / kStratum + 1) << kItemSigns);
  float bound = 0.0f;
  for (int64_t p = n_panels - 1; p >= 0; --p) {
    for (int64_t j = p * kPanel; j < p * kPanel + width(p); ++j) {
      const int32_t i = by_norm[size(ids_[j])];
      bound = std::max(bound, norms[size(i)]);
      ids_[j] = item(i);
    }
    bounds_[p] = bound;
  }
  std::fill(ids_ + n, ids_ + n_panels * kPanel, -1);
}

void ItemPanels::pack(Rows<const float> items, const Basis& basis, int64_t p) {
  float* to = data_ + p * (d + 1) * kPanel;
  float* tails = to + d * kPanel;
  std::fill_n(tails, kPanel, 0.0f);
  if (!basis.rotates()) return pack_panel(to, items, ids(p), width(p));
  Arena& arena = thread_arena();
  arena.reset(Arena::padded<float>(size(kPanel * padded(d))));
  float* turned = arena.take<float>(size(kPanel * padded(d)));
  for (int64_t j = 0; j < width(p); ++j) {
    float* row = turned + j * padded(d);
    basis.rotate(row, items.row(ids(p)[j]));
    copy_strided(to + j, row, d, kPanel, 1);
    tails[j] = row_norm(row + basis.head(), d - basis.head());
  }
  for (int64_t k = 0; k < d; ++k) std::fill(to + k * kPanel + width(p), to + (k + 1) * kPanel, 0.0f);
}

}  // namespace recsys_fast
