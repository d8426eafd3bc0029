// Items laid out for a scan by many queries: by descending norm, in panels whose columns fill the registers.
#pragma once

#include "core/arena.h"
#include "core/gemm.h"
#include "core/views.h"
#include "cpu/topk_basis.h"
#include "cpu/topk_bytes.h"

namespace recsys_fast {

inline constexpr int kPanel = kTileVectors * kLanes;  // items per panel

// |row| rounded up; infinity where it is not a finite number.
float row_norm(const float* row, int64_t d);

// order (n) = indices by ascending key < n_keys, equal ones in their order.
void sort_by_key(int32_t* order, const int32_t* keys, int64_t n, int64_t n_keys);

// to[k * to_step] = from[k * from_step], k < n.
inline void copy_strided(float* to, const float* from, int64_t n, int64_t to_step, int64_t from_step) {
  for (int64_t k = 0; k < n; ++k) to[k * to_step] = from[k * from_step];
}

// Where the query of a slot starts in groups of kTileRows queries, (d, kTileRows) each.
inline float* query_slot(float* rows, int64_t slot, int64_t d) {
  return rows + slot / kTileRows * d * kTileRows + slot % kTileRows;
}

// panel (d, kPanel) = the n <= kPanel rows `ids` of items in columns, zeros behind them.
void pack_panel(float* panel, Rows<const float> items, const int32_t* ids, int64_t n);

class ItemPanels {
 public:
  // Copies the n rows `candidates` of items (null: all n rows), turned into the basis where it rotates. Items of
  // similar norm are then put in order of direction, so that a panel as a whole has little to offer to most queries.
  // with_bytes: a copy in bytes too.
  ItemPanels(Rows<const float> items, const int32_t* candidates, int64_t n, const Basis& basis, bool with_bytes,
             int n_threads);

  int64_t n, n_panels, d;
  const float* panel(int64_t p) const { return data_ + p * (d + 1) * kPanel; }  // (d, kPanel), zeros past the last item
  const float* tails(int64_t p) const { return panel(p) + d * kPanel; }  // norms of the coordinates behind the head
  const int32_t* ids(int64_t p) const { return ids_ + p * kPanel; }      // of the panel's columns
  int64_t width(int64_t p) const { return std::min<int64_t>(kPanel, n - p * kPanel); }
  float norm_bound(int64_t p) const { return bounds_[p]; }  // of all items from panel p on
  bool has_bytes() const { return words_ != nullptr; }
  const int32_t* bytes(int64_t p) const { return words_ + p * byte_words(d) * kPanel; }  // (byte_words(d), kPanel)
  const ByteBounds& byte_bounds(int64_t p) const { return byte_bounds_[p]; }

 private:
  void arrange(Rows<const float> items, const int32_t* candidates, const Basis& basis, int n_threads);
  void pack(Rows<const float> items, const Basis& basis, int64_t p);

  Arena memory_;
  float* data_;
  int32_t* ids_;
  float* bounds_;
  int32_t* words_;
  ByteBounds* byte_bounds_;
};

}  // namespace recsys_fast
