// Losses over candidates that all rows share. Templates only, see cpu/loss_tiles.h. A block of rows at a time: scores
// of all candidates as (panel, candidate, row), the losses lane by lane in their place, then both gradients. Candidates
// are cut into slots as the items of cpu/softmax_rows.h.
#pragma once

#include <algorithm>

#include "core/arena.h"
#include "core/thread_pool.h"
#include "cpu/loss_block.h"
#include "cpu/score_lanes.h"
#include "ops/losses.h"

namespace recsys_fast {

template <class Product>
class SharedRows {
 public:
  using Word = typename Product::Word;

  SharedRows(const ScoreProblem& problem, const int32_t* ids, const float* log_q, const ScoreLossOptions& options,
             int n_threads)
      : problem_(problem),
        ids_(ids),
        log_q_(log_q),
        options_(options),
        block_(problem.h.d, problem.rows.n, n_threads),
        n_threads_(n_threads) {}

  double run() {
    const int64_t n = problem_.rows.n, n_rows = problem_.h.n;
    const int64_t fit = std::clamp<int64_t>(kScores / (n * kPanel), 1, kBlockPanels);
    n_panels_ = std::clamp<int64_t>((n_rows + kPanel - 1) / kPanel, 1, fit);
    const int64_t block_rows = n_panels_ * kPanel;
    Arena& arena = loss_arena();
    arena.reset(block_.bytes<Product>(n_panels_) + Arena::padded<float>(n * block_rows) +
                Arena::padded<double>(block_rows / kLanes) + Arena::padded<float>(block_rows) +
                Arena::padded<float>(n));
    block_.template take<Product>(arena, n_panels_);
    scores_ = arena.take<float>(n * block_rows);
    losses_ = arena.take<double>(block_rows / kLanes);
    ones_ = arena.take<float>(block_rows);
    constant_ = arena.take<float>(n);
    std::fill_n(ones_, block_rows, 1.0f);
    for (int64_t j = 0; j < n; ++j) {
      constant_[j] = (problem_.bias != nullptr ? problem_.bias[j] : 0.0f) - (log_q_ != nullptr ? log_q_[j] : 0.0f);
    }
    if (n_rows == 0) {
      std::fill_n(problem_.drows, n * problem_.h.d, 0.0f);
      if (problem_.dbias != nullptr) std::fill_n(problem_.dbias, n, 0.0f);
    }
    double loss = 0.0;
    for (int64_t first = 0; first < n_rows; first += block_rows) {
      loss += block(first, std::min(block_rows, n_rows - first));
    }
    return loss;
  }

 private:
  float* scores(int64_t panel, int64_t item) const { return scores_ + (panel * problem_.rows.n + item) * kPanel; }

  double block(int64_t first, int64_t n) {
    const int64_t panels = (n + kPanel - 1) / kPanel;
    const auto h = [&](int64_t r) { return problem_.h.row(first + r); };
    block_.template pack_rows<Product>(n, h);
    block_.template pack_scaled<Product>(n, ones_, h);
    block_.for_slots([&](int64_t slot) {
      const auto work = block_.template scratch<Product>();
      block_.for_tiles(slot, [&](int64_t j, int64_t m) {
        block_.template pack_items<Product>(work, problem_.rows.row(j), m);
        for (int64_t p = 0; p < panels; ++p) {
          block_.template scores<Product>(work.along, m, p, scores(p, j),
                                          [&](int64_t i, const Vec(&sum)[kTileVectors]) __attribute__((always_inline)) {
                                            const Vec constant = broadcast(constant_[j + i]);
#pragma GCC unroll 8
                                            for (int v = 0; v < kTileVectors; ++v)
                                              store(scores(p, j + i) + v * kLanes, sum[v] + constant);
                                          });
        }
      });
    });
    const int64_t vectors = panels * kTileVectors;
    parallel_for(vectors, 1, n_threads_, [&](int64_t v, int64_t, int) { losses_[v] = lanes(first, n, v); });
    gradients(panels, first == 0);
    parallel_for(n, 16, n_threads_, [&](int64_t begin, int64_t end, int) {
      for (int64_t r = begin; r < end; ++r) {
        float* dh = block_.share(0) + r * block_.dp();
        for (int64_t slot = 1; slot < block_.n_slots(); ++slot) {
          axpy(dh, 1.0f, block_.share(slot) + r * block_.dp(), block_.dp());
        }
        std::copy_n(dh, problem_.h.d, problem_.dh + (first + r) * problem_.h.d);
      }
    });
    double loss = 0.0;
    for (int64_t v = 0; v < vectors; ++v) loss += losses_[v];
    return loss;
  }

  // Losses of rows first + v * kLanes, ...; their scores become derivatives.
  double lanes(int64_t first, int64_t n, int64_t v) const {
    ScoreLanes rows;
    rows.scale = problem_.scale;
    for (int i = 0; i < kLanes; ++i) {
      const int64_t r = v * kLanes + i;
      const int32_t at = r < n ? problem_.targets[first + r] : -1;
      rows.positive[i] = at;
      rows.target_id[i] = at >= 0 && ids_ != nullptr ? ids_[at] : -1;
      rows.weight[i] = at >= 0 && problem_.weights != nullptr ? problem_.weights[first + r] : 1.0f;
    }
    float* s = scores(v / kTileVectors, 0) + v % kTileVectors * kLanes;
    return score_lanes(s, kPanel, problem_.rows.n, rows, ids_, options_);
  }

  void gradients(int64_t panels, bool overwrite) {
    block_.for_slots([&](int64_t slot) {
      const auto work = block_.template scratch<Product>();
      float* dh = block_.share(slot);
      std::fill_n(dh, panels * kPanel * block_.dp(), 0.0f);
      block_.for_tiles(slot, [&](int64_t j, int64_t m) {
        block_.template pack_items<Product>(work, problem_.rows.row(j), m);
        std::fill_n(work.drows, m * block_.dp(), 0.0f);
        for (int64_t p = 0; p < panels; ++p) {
          float* tile = scores(p, j);
          const Word* by_items = Product::by_items(work, tile, nullptr, m);
          block_.template add_items<Product>(dh + p * kPanel * block_.dp(), by_items, work.across, m);
          block_.template add_rows<Product>(work.drows, Product::rows_of(work, tile), p, m);
          if (problem_.dbias == nullptr) continue;
          for (int64_t i = 0; i < m; ++i) {
            const float sum = FloatProduct::weighted(tile + i * kPanel, ones_);
            float& out = problem_.dbias[j + i];
            out = overwrite && p == 0 ? sum : out + sum;
          }
        }
        block_.write(problem_.drows + j * problem_.h.d, work.drows, m, overwrite);
      });
    });
  }

  static constexpr int64_t kBlockPanels = 4;            // panels of a block of rows
  static constexpr int64_t kScores = int64_t{1} << 22;  // scores at once
  const ScoreProblem& problem_;
  const int32_t* ids_;
  const float* log_q_;
  const ScoreLossOptions& options_;
  LossBlock block_;
  int n_threads_;
  int64_t n_panels_ = 1;
  float *scores_ = nullptr, *ones_ = nullptr, *constant_ = nullptr;
  double* losses_ = nullptr;
};

}  // namespace recsys_fast
