// What losses over many scores share: items cut into slots and tiles, panels of rows, scratch. Templates and inlined
// functions only, see cpu/loss_tiles.h.
#pragma once

#include <algorithm>

#include "core/arena.h"
#include "core/thread_pool.h"
#include "cpu/loss_tiles.h"

namespace recsys_fast {

// Memory of a whole call; the threads' own arenas serve inside its loops.
RF_INLINE Arena& loss_arena() {
  thread_local Arena arena;
  return arena;
}

// A thread's scratch for one tile of items and one panel of rows.
template <class Word>
struct LossScratch {
  Word *along, *across;      // the items' rows, for sums over d and over items
  float* tile;               // (item, row)
  Word *by_rows, *by_items;  // the same in the words of a product over rows, over items
  float* drows;              // (items, dp)
};

class LossBlock {
 public:
  RF_INLINE LossBlock(int64_t d, int64_t n_items, int n_threads)
      : d_(d),
        dp_(padded(d)),
        n_items_(n_items),
        tile_(d > kWideRow && n_items >= kSlots * kWideItemTile ? kWideItemTile : kItemTile),
        n_tiles_((n_items + tile_ - 1) / tile_),
        n_slots_(std::clamp<int64_t>(n_tiles_, 1, kSlots)),
        n_threads_(n_threads) {}

  RF_INLINE int64_t n_slots() const { return n_slots_; }
  RF_INLINE int64_t dp() const { return dp_; }
  // Items of a tile at most.
  RF_INLINE int64_t tile() const { return tile_; }
  RF_INLINE int64_t begin(int64_t slot) const { return std::min(n_items_, slot * n_tiles_ / n_slots_ * tile_); }

  template <class Product>
  size_t bytes(int64_t n_panels) const {
    using Word = typename Product::Word;
    return Arena::padded<Word>(n_panels * kPanel * padded(d_)) +
           Arena::padded<Word>(n_panels * kPanel / Product::kPair * dp_) +
           Arena::padded<float>(n_slots_ * n_panels * kPanel * dp_);
  }
  template <class Product>
  void take(Arena& arena, int64_t n_panels) {
    using Word = typename Product::Word;
    n_panels_ = n_panels;
    lanes_ = arena.take<Word>(n_panels * kPanel * padded(d_));
    scaled_ = arena.take<Word>(n_panels * kPanel / Product::kPair * dp_);
    shares_ = arena.take<float>(n_slots_ * n_panels * kPanel * dp_);
  }

  // A slot's share of dh, (block's rows, dp).
  RF_INLINE float* share(int64_t slot) const { return shares_ + slot * n_panels_ * kPanel * dp_; }

  template <class Body>
  void for_slots(const Body& body) const {
    parallel_for(n_slots_, 1, n_threads_, [&](int64_t slot, int64_t, int) { body(slot); });
  }
  // body(first item, number) for the tiles of a slot.
  template <class Body>
  void for_tiles(int64_t slot, const Body& body) const {
    const int64_t end = begin(slot + 1);
    for (int64_t j = begin(slot); j < end; j += tile_) {
      body(j, std::min(tile_, end - j));
      check_interrupt();
    }
  }

  template <class Product>
  LossScratch<typename Product::Word> scratch() const {
    using Word = typename Product::Word;
    const int64_t items = tile_ * dp_, scores = tile_ * kPanel;
    Arena& arena = thread_arena();
    arena.reset(2 * Arena::padded<Word>(items) + Arena::padded<float>(items) + Arena::padded<float>(scores) +
                2 * Arena::padded<Word>(scores));
    LossScratch<Word> work;
    work.along = arena.take<Word>(items);
    work.across = Product::kPair == 1 ? work.along : arena.take<Word>(items);
    work.tile = arena.take<float>(scores);
    work.drows = arena.take<float>(items);
    work.by_rows = arena.take<Word>(scores);
    work.by_items = arena.take<Word>(scores);
    return work;
  }

  // The block's rows: n of them, row r at source(r).
  template <class Product, class Source>
  void pack_rows(int64_t n, const Source& source) const {
    for_panels(n, [&](int64_t p) {
      Product::pack_lanes(lanes<Product>(p), n - p * kPanel, d_, [&](int64_t r) { return source(p * kPanel + r); });
    });
  }
  template <class Product, class Source>
  void pack_scaled(int64_t n, const float* factors, const Source& source) const {
    for_panels(n, [&](int64_t p) {
      Product::pack_scaled(scaled<Product>(p), n - p * kPanel, d_, dp_, factors + p * kPanel,
                           [&](int64_t r) { return source(p * kPanel + r); });
    });
  }
  template <class Product>
  RF_INLINE void pack_items(const LossScratch<typename Product::Word>& work, const float* rows, int64_t n) const {
    Product::pack_items(work.along, work.across, rows, n, d_, dp_);
  }

  // end(i, sums of kTileVectors) for the scores of n items with a panel, kTileRows at a time. Of wide rows a part of
  // the depth at a time, as much of the panel as stays in L1 while the items pass; sums wait in `partial` (n, kPanel).
  template <class Product, class End>
  RF_INLINE void scores(const typename Product::Word* items, int64_t n, int64_t panel, float* partial,
                        const End& end) const {
    const int64_t n_k = (d_ + Product::kPair - 1) / Product::kPair;
    if (n_k <= kDepth) {
      for (int64_t i = 0; i < n; i += kTileRows) {
        product_rows<Product, kTileVectors>(static_cast<int>(std::min<int64_t>(kTileRows, n - i)),
                                            {items + i * dp_, dp_, 1, n_k}, lanes<Product>(panel), kPanel,
                                            [&](int r, const Vec(&sum)[kTileVectors])
                                                __attribute__((always_inline)) { end(i + r, sum); });
      }
      return;
    }
    const int64_t n_parts = (n_k + kDepth - 1) / kDepth;
    for (int64_t part = 0; part < n_parts; ++part) {
      const int64_t first = part * n_k / n_parts, last = (part + 1) * n_k / n_parts;
      const bool goes_on = part > 0, ends = part + 1 == n_parts;
      for (int64_t i = 0; i < n; i += kTileRows) {
        product_rows<Product, kTileVectors>(static_cast<int>(std::min<int64_t>(kTileRows, n - i)),
                                            {items + i * dp_ + first, dp_, 1, last - first},
                                            lanes<Product>(panel) + first * kPanel, kPanel,
                                            [&](int r, const Vec(&sum)[kTileVectors]) __attribute__((always_inline)) {
                                              float* at = partial + (i + r) * kPanel;
                                              Vec total[kTileVectors];
#pragma GCC unroll 8
                                              for (int v = 0; v < kTileVectors; ++v)
                                                total[v] = goes_on ? load(at + v * kLanes) + sum[v] : sum[v];
                                              if (ends) return end(i + r, total);
#pragma GCC unroll 8
                                              for (int v = 0; v < kTileVectors; ++v) store(at + v * kLanes, total[v]);
                                            });
      }
    }
  }
  // dh (kPanel, dp) += scores (item, row)^T items.
  template <class Product>
  RF_INLINE void add_items(float* dh, const typename Product::Word* scores, const typename Product::Word* items,
                           int64_t n) const {
    product_block<Product>(kPanel, dp_, {scores, 1, kPanel, (n + Product::kPair - 1) / Product::kPair}, items, dh);
  }
  // drows (n, dp) += scores (item, row) scaled rows, of n_panels panels whose scores lie `apart`.
  template <class Product>
  RF_INLINE void add_rows(float* drows, const typename Product::Word* scores, int64_t panel, int64_t n,
                          int64_t n_panels = 1, int64_t apart = 0) const {
    constexpr int64_t kWords = kPanel / Product::kPair;
    for (int64_t p = 0; p < n_panels; p += kDepth / kPanel) {
      const int64_t parts = std::min<int64_t>(kDepth / kPanel, n_panels - p);
      product_block<Product>(n, dp_, {scores + p * apart, kWords, 1, kWords, parts, apart}, scaled<Product>(panel + p),
                             drows);
    }
  }
  // out (n, d) = or += drows (n, dp).
  RF_INLINE void write(float* out, const float* drows, int64_t n, bool overwrite) const {
    for (int64_t i = 0; i < n; ++i) {
      if (overwrite) {
        std::copy_n(drows + i * dp_, d_, out + i * d_);
      } else {
        axpy(out + i * d_, 1.0f, drows + i * dp_, d_);
      }
    }
  }

 private:
  template <class Body>
  void for_panels(int64_t n, const Body& body) const {
    parallel_for((n + kPanel - 1) / kPanel, 1, n_threads_, [&](int64_t panel, int64_t, int) { body(panel); });
  }
  template <class Product>
  typename Product::Word* lanes(int64_t panel) const {
    return static_cast<typename Product::Word*>(lanes_) + panel * kPanel * padded(d_);
  }
  template <class Product>
  typename Product::Word* scaled(int64_t panel) const {
    return static_cast<typename Product::Word*>(scaled_) + panel * (kPanel / Product::kPair) * dp_;
  }

  static constexpr int64_t kSlots = 16;
  int64_t d_, dp_, n_items_, tile_, n_tiles_, n_slots_, n_panels_ = 0;
  int n_threads_;
  void *lanes_ = nullptr, *scaled_ = nullptr;
  float* shares_ = nullptr;
};

}  // namespace recsys_fast
