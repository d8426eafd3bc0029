// Softmax cross-entropy over all rows of a table, for one target of each row or for several with weights. Templates
// only, see cpu/loss_tiles.h.
//
// A block of rows at a time: u_tj = 2^-k_t e^(s_tj), their sums Z_t, and sum_j u_tj e_j while u_tj is in L1; then, with
// Z known, dtable_j += sum_t u_tj (w_t h_t / Z_t) from the u that were kept, or made again where the block's would not
// fit L3. The shift k_t comes from |h| max |e| + max b (Cauchy-Schwarz), so that no maximum has to be found first.
// Where the bound lies so far above the largest score that e^(s - shift) may have underflowed, which Z_t shows, the
// row's true maximum is found and the block is done again with that; the other rows get the same bits. Items are cut
// into slots that depend on their number only; a slot owns its rows of dtable, and has a share of dh of its own.
#pragma once

#include <cmath>
#include <limits>

#include "core/arena.h"
#include "core/thread_pool.h"
#include "cpu/loss_block.h"
#include "cpu/row_vectors.h"
#include "ops/losses.h"

namespace recsys_fast {

inline constexpr float kLargestShift = 1e6f;  // bounds above are left to the true maximum
inline constexpr float kHeadroom = 64.0f;     // u <= 2^64, so that sums of u e stay in range
inline constexpr float kEnough = 1.0f;
inline constexpr float kLost = 0x1p-101f;  // Z / n below this: terms that were flushed to 0 might count

template <class Product>
class SoftmaxRows {
 public:
  using Word = typename Product::Word;

  SoftmaxRows(const ScoreProblem& problem, int n_threads)
      : problem_(problem), block_(problem.h.d, problem.rows.n, n_threads), n_threads_(n_threads) {}

  double run() {
    const int64_t n = problem_.rows.n;
    int64_t n_rows = 0;
    for (int64_t t = 0; t < problem_.h.n; ++t) n_rows += begin(t) < end(t);
    allocate(n_rows);
    for (int64_t t = 0, at = 0; t < problem_.h.n; ++t) {
      if (begin(t) < end(t)) {
        rows_[at++] = t;
      } else {
        std::fill_n(problem_.dh + t * problem_.h.d, problem_.h.d, 0.0f);
      }
    }
    if (n_rows == 0) {
      std::fill_n(problem_.drows, n * problem_.h.d, 0.0f);
      if (problem_.dbias != nullptr) std::fill_n(problem_.dbias, n, 0.0f);
      return 0.0;
    }
    largest();
    double loss = 0.0;
    for (int64_t first = 0; first < n_rows; first += block_rows_) {
      loss += block(rows_ + first, std::min(block_rows_, n_rows - first), first == 0);
    }
    return loss;
  }

 private:
  // The entries of targets that belong to row t.
  RF_INLINE int64_t begin(int64_t t) const { return problem_.target_ptr != nullptr ? problem_.target_ptr[t] : t; }
  RF_INLINE int64_t end(int64_t t) const {
    return problem_.target_ptr != nullptr ? problem_.target_ptr[t + 1] : t + (problem_.targets[t] >= 0 ? 1 : 0);
  }
  RF_INLINE float weight(int64_t k) const { return problem_.weights != nullptr ? problem_.weights[k] : 1.0f; }
  double total_weight(int64_t t) const {
    double sum = 0.0;
    for (int64_t k = begin(t); k < end(t); ++k) sum += weight(k);
    return sum;
  }

  void allocate(int64_t n_rows) {
    const int64_t n = problem_.rows.n, words = n * kPanel / Product::kPair;
    const bool wide = problem_.h.d > kWideRow;
    const int64_t fit = (wide ? kWideKeptWords : kKeptWords) / words;  // panels of scores to keep
    keep_ = fit >= 1;
    const int64_t panels = wide ? kWidePanels : kBlockPanels;
    const int64_t most = keep_ ? std::min<int64_t>(fit, panels) : panels;
    n_panels_ = std::max<int64_t>(1, std::min(most, (n_rows + kPanel - 1) / kPanel));
    block_rows_ = n_panels_ * kPanel;
    Arena& arena = loss_arena();
    const int64_t n_slots = block_.n_slots();
    arena.reset(Arena::padded<int64_t>(n_rows) + block_.bytes<Product>(n_panels_) +
                Arena::padded<Word>(keep_ ? n_panels_ * words : 0) + 4 * Arena::padded<float>(block_rows_) +
                2 * Arena::padded<float>(n_slots) + Arena::padded<bool>(block_rows_) +
                Arena::padded<double>(block_rows_) + Arena::padded<float>(n_slots * block_rows_));
    rows_ = arena.take<int64_t>(n_rows);
    block_.template take<Product>(arena, n_panels_);
    kept_ = arena.take<Word>(keep_ ? n_panels_ * words : 0);
    magic_ = arena.take<float>(block_rows_);
    shift_ = arena.take<float>(block_rows_);
    factor_ = arena.take<float>(block_rows_);
    total_ = arena.take<float>(block_rows_);
    exact_ = arena.take<bool>(block_rows_);
    losses_ = arena.take<double>(block_rows_);
    norms_ = arena.take<float>(n_slots);
    biases_ = arena.take<float>(n_slots);
    sums_ = arena.take<float>(n_slots * block_rows_);
  }

  // Largest |row| and largest bias of the table.
  void largest() {
    parallel_for(block_.n_slots(), 1, n_threads_, [&](int64_t slot, int64_t, int) {
      float norm = 0.0f, bias = problem_.bias != nullptr ? -std::numeric_limits<float>::infinity() : 0.0f;
      for (int64_t j = block_.begin(slot); j < block_.begin(slot + 1); ++j) {
        const float* row = problem_.rows.row(j);
        const float square = dot(row, row, problem_.rows.d);
        norm = square <= norm ? norm : square;  // a NaN stays
        if (problem_.bias != nullptr) bias = std::max(bias, problem_.bias[j]);
      }
      norms_[slot] = norm;
      biases_[slot] = bias;
    });
    norm_ = norms_[0];
    bias_ = biases_[0];
    for (int64_t slot = 1; slot < block_.n_slots(); ++slot) {
      norm_ = norms_[slot] <= norm_ ? norm_ : norms_[slot];
      bias_ = std::max(bias_, biases_[slot]);
    }
    norm_ = std::sqrt(norm_);
  }

  double block(const int64_t* rows, int64_t n, bool first) {
    const int64_t d = problem_.h.d;
    const auto h = [&](int64_t r) { return problem_.h.row(rows[r]); };
    block_.template pack_rows<Product>(n, h);
    shifted_ = false;
    bool all_sure = true;
    for (int64_t r = 0; r < block_rows_; ++r) {
      const float bound = r < n ? 1.01f * std::sqrt(dot(h(r), h(r), d)) * norm_ + bias_ : 0.0f;
      const bool sure = bound < kLargestShift && bound > -kLargestShift;
      // In the panel's empty lanes e^bias could be anything: they are 0.
      magic_[r] = r < n ? kRoundMagic - (sure ? std::ceil(bound * 1.44269504f) - kHeadroom : 0.0f)
                        : -std::numeric_limits<float>::infinity();
      shift_[r] = 0.0f;
      exact_[r] = false;
      total_[r] = sure ? kEnough : 0.0f;
      all_sure = all_sure && sure;
    }
    const float least = static_cast<float>(problem_.rows.n) * kLost;
    do {
      if (!all_sure) true_maximum(n, least);
      shifted_ = shifted_ || !all_sure;
      if (shifted_) pass<true>(n);
      if (!shifted_) pass<false>(n);
      all_sure = true;
      for (int64_t r = 0; r < n; ++r) all_sure = all_sure && sure(r, least);
    } while (!all_sure);
    const double loss = row_losses(rows, n);
    block_.template pack_scaled<Product>(n, factor_, h);
    second(rows, n, first);
    return loss;
  }

  bool sure(int64_t r, float least) const { return exact_[r] || (total_[r] >= least && total_[r] < 1e38f); }

  double log_sum(int64_t r) const {
    return std::log(static_cast<double>(total_[r])) + shift_[r] +
           (kRoundMagic - static_cast<double>(magic_[r])) * 0.69314718055994530942;
  }

  // The sum of the rows' losses; makes their factors.
  double row_losses(const int64_t* rows, int64_t n) {
    int64_t n_targets = 0;
    for (int64_t r = 0; r < n; ++r) n_targets += end(rows[r]) - begin(rows[r]);
    std::fill_n(factor_, block_rows_, 0.0f);
    parallel_for(n, kLossRows, threads_for(n_targets * problem_.h.d, n_threads_), [&](int64_t from, int64_t to, int) {
      for (int64_t r = from; r < to; ++r) {
        const double weight = total_weight(rows[r]);
        factor_[r] = static_cast<float>(weight) * problem_.scale / total_[r];
        losses_[r] = row_loss(rows[r], weight, log_sum(r));
      }
    });
    double loss = 0.0;
    for (int64_t r = 0; r < n; ++r) loss += losses_[r];
    return loss;
  }

  double row_loss(int64_t t, double total_weight, double log_sum) const {
    if (problem_.target_ptr == nullptr) return total_weight * (log_sum - target_score(t, problem_.targets[t]));
    double loss = total_weight * log_sum;
    for (int64_t k = begin(t); k < end(t); ++k) loss -= weight(k) * target_score(t, problem_.targets[k]);
    return loss;
  }

  double target_score(int64_t t, int64_t j) const {
    const double sum = Product::dot(problem_.h.row(t), problem_.rows.row(j), problem_.h.d);
    return problem_.bias != nullptr ? sum + problem_.bias[j] : sum;
  }

  // u of a tile of items and a panel into tile (item, row); adds to the panel's sums.
  template <bool Shifted>
  RF_INLINE void tile_exp(float* tile, const Word* items, int64_t first, int64_t n, int64_t panel, float* sums) const {
    const float* bias = problem_.bias;
    Vec total[kTileVectors], magic[kTileVectors], shift[kTileVectors];
    for (int v = 0; v < kTileVectors; ++v) {
      total[v] = load(sums + v * kLanes);
      magic[v] = load(magic_ + panel * kPanel + v * kLanes);
      shift[v] = load(shift_ + panel * kPanel + v * kLanes);
    }
    block_.template scores<Product>(items, n, panel, tile,
                                    [&](int64_t i, const Vec(&sum)[kTileVectors]) __attribute__((always_inline)) {
                                      const Vec b = broadcast(bias != nullptr ? bias[first + i] : 0.0f);
#pragma GCC unroll 8
                                      for (int v = 0; v < kTileVectors; ++v) {
                                        Vec x = sum[v] + b;
                                        if constexpr (Shifted) x -= shift[v];
                                        const Vec u = exp_shifted(x, magic[v]);
                                        total[v] += u;
                                        store(tile + i * kPanel + v * kLanes, u);
                                      }
                                    });
    for (int v = 0; v < kTileVectors; ++v) store(sums + v * kLanes, total[v]);
  }

  // Z into total_, and the slots' shares of sum_j u_tj e_j.
  template <bool Shifted>
  void pass(int64_t n) {
    const int64_t panels = (n + kPanel - 1) / kPanel;
    block_.for_slots([&](int64_t slot) {
      float* sums = sums_ + slot * block_rows_;
      std::fill_n(sums, block_rows_, 0.0f);
      auto work = block_.template scratch<Product>();
      float* dh = block_.share(slot);
      std::fill_n(dh, block_rows_ * block_.dp(), 0.0f);
      block_.for_tiles(slot, [&](int64_t j, int64_t m) {
        block_.template pack_items<Product>(work, problem_.rows.row(j), m);
        for (int64_t p = 0; p < panels; ++p) {
          ask(j + m, p, panels, problem_.rows.data, problem_.h.d);
          if (keep_) ask(j + m, 0, 1, kept(p, 0), kPanel / Product::kPair);
          float* tile = Product::tile(work, keep_ ? kept(p, j) : nullptr);
          tile_exp<Shifted>(tile, work.along, j, m, p, sums + p * kPanel);
          Word* by_items = Product::by_items(work, tile, keep_ ? kept(p, j) : nullptr, m);
          block_.template add_items<Product>(dh + p * kPanel * block_.dp(), by_items, work.across, m);
        }
      });
    });
    for (int64_t r = 0; r < n; ++r) {
      float sum = 0.0f;
      for (int64_t slot = 0; slot < block_.n_slots(); ++slot) sum += sums_[slot * block_rows_ + r];
      total_[r] = sum;
    }
  }

  Word* kept(int64_t panel, int64_t item) const {
    return kept_ + (panel * problem_.rows.n + item) * (kPanel / Product::kPair);
  }

  // Asks the caches for a share of the next tile's rows of `width`, those from `item` on.
  template <class T>
  void ask(int64_t item, int64_t share, int64_t n_shares, const T* rows, int64_t width) const {
    const int64_t n = std::min(block_.tile(), problem_.rows.n - item), begin = share * n / n_shares;
    const int64_t size = ((share + 1) * n / n_shares - begin) * width;
    if (size > 0) prefetch(rows + (item + begin) * width, size * static_cast<int64_t>(sizeof(T)));
  }

  // Shifts of the rows whose sums are not sure: their largest score.
  void true_maximum(int64_t n, float least) {
    const int64_t panels = (n + kPanel - 1) / kPanel;
    block_.for_slots([&](int64_t slot) {
      float* tops = sums_ + slot * block_rows_;
      std::fill_n(tops, block_rows_, -std::numeric_limits<float>::infinity());
      auto work = block_.template scratch<Product>();
      block_.for_tiles(slot, [&](int64_t j, int64_t m) {
        block_.template pack_items<Product>(work, problem_.rows.row(j), m);
        for (int64_t p = 0; p < panels; ++p) {
          float* top = tops + p * kPanel;
          block_.template scores<Product>(work.along, m, p, work.tile,
                                          [&](int64_t i, const Vec(&sum)[kTileVectors]) __attribute__((always_inline)) {
                                            const Vec b =
                                                broadcast(problem_.bias != nullptr ? problem_.bias[j + i] : 0.0f);
                                            for (int v = 0; v < kTileVectors; ++v) {
                                              store(top + v * kLanes, max(sum[v] + b, load(top + v * kLanes)));
                                            }
                                          });
        }
      });
    });
    for (int64_t r = 0; r < n; ++r) {
      if (sure(r, least)) continue;
      float top = sums_[r];
      for (int64_t slot = 1; slot < block_.n_slots(); ++slot) top = std::max(top, sums_[slot * block_rows_ + r]);
      magic_[r] = kRoundMagic;
      shift_[r] = top;
      exact_[r] = true;
    }
  }

  // Rows of dtable and dbias by slots, then dh from the slots' shares.
  void second(const int64_t* rows, int64_t n, bool first) {
    const int64_t d = problem_.h.d, dp = block_.dp(), panels = (n + kPanel - 1) / kPanel;
    const int64_t apart = problem_.rows.n * (kPanel / Product::kPair);  // from a panel's kept scores to the next's
    block_.for_slots([&](int64_t slot) {
      auto work = block_.template scratch<Product>();
      block_.for_tiles(slot, [&](int64_t j, int64_t m) {
        std::fill_n(work.drows, m * dp, 0.0f);
        if (!keep_) block_.template pack_items<Product>(work, problem_.rows.row(j), m);
        for (int64_t p = 0; p < panels; ++p) {
          ask(j + m, p, panels, problem_.drows, d);
          Word* u = keep_ ? kept(p, j) : nullptr;
          if (keep_) ask(j + m, 0, 1, kept(p, 0), kPanel / Product::kPair);
          if (!keep_) {
            float* tile = Product::tile(work, nullptr);
            alignas(64) float unused[kPanel] = {};
            if (shifted_) tile_exp<true>(tile, work.along, j, m, p, unused);
            if (!shifted_) tile_exp<false>(tile, work.along, j, m, p, unused);
            u = Product::by_rows(work, tile, m);
          }
          if (!keep_) block_.template add_rows<Product>(work.drows, u, p, m);
          if (problem_.dbias != nullptr) {
            for (int64_t i = 0; i < m; ++i) {
              const float sum = Product::weighted(u + i * (kPanel / Product::kPair), factor_ + p * kPanel);
              float& out = problem_.dbias[j + i];
              out = first && p == 0 ? sum : out + sum;
            }
          }
        }
        if (keep_) block_.template add_rows<Product>(work.drows, kept(0, j), 0, m, panels, apart);
        block_.write(problem_.drows + j * d, work.drows, m, first);
      });
      targets(rows, n, block_.begin(slot), block_.begin(slot + 1));
    });
    parallel_for(n, 16, n_threads_, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) row_gradient(rows[r], r);
    });
  }

  // The targets' share in the gradients of items [first, last).
  void targets(const int64_t* rows, int64_t n, int64_t first, int64_t last) const {
    for (int64_t r = 0; r < n; ++r) {
      for (int64_t k = begin(rows[r]); k < end(rows[r]); ++k) {
        const int64_t j = problem_.targets[k];
        if (j < first || j >= last) continue;
        const float pull = problem_.scale * weight(k);
        axpy(problem_.drows + j * problem_.h.d, -pull, problem_.h.row(rows[r]), problem_.h.d);
        if (problem_.dbias != nullptr) problem_.dbias[j] -= pull;
      }
    }
  }

  void row_gradient(int64_t t, int64_t r) const {
    const int64_t d = problem_.h.d;
    float *dh = block_.share(0) + r * block_.dp(), *out = problem_.dh + t * d;
    for (int64_t slot = 1; slot < block_.n_slots(); ++slot) {
      axpy(dh, 1.0f, block_.share(slot) + r * block_.dp(), block_.dp());
    }
    for (int64_t c = 0; c < d; ++c) out[c] = factor_[r] * dh[c];
    for (int64_t k = begin(t); k < end(t); ++k) {
      axpy(out, -problem_.scale * weight(k), problem_.rows.row(problem_.targets[k]), d);
    }
  }

  static constexpr int64_t kLossRows = 8;     // rows of a chunk of work
  static constexpr int64_t kBlockPanels = 1;  // panels of a block: what is kept competes with the tables for L3
  static constexpr int64_t kKeptWords = int64_t{1} << 22;  // words of scores that are kept at once: half of L3
  // Where rows are wide, going through the table once per block costs more than scores that come back from memory.
  static constexpr int64_t kWidePanels = 8, kWideKeptWords = int64_t{1} << 25;
  const ScoreProblem& problem_;
  LossBlock block_;
  int n_threads_;
  bool keep_ = true, shifted_ = false;
  int64_t n_panels_ = 1, block_rows_ = kPanel;
  int64_t* rows_ = nullptr;
  Word* kept_ = nullptr;
  float *magic_ = nullptr, *shift_ = nullptr, *factor_ = nullptr, *total_ = nullptr, *norms_ = nullptr,
        *biases_ = nullptr, *sums_ = nullptr;
  bool* exact_ = nullptr;
  double* losses_ = nullptr;
  float norm_ = 0.0f, bias_ = 0.0f;
};

}  // namespace recsys_fast
