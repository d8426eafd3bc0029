#include "ops/skipgram.h"

#include "core/arena.h"
#include "core/gemm.h"
#include "core/sigmoid.h"
#include "cpu/sgd_rows.h"
#include "cpu/skipgram_plan.h"
#include "ops/negatives.h"

namespace recsys_fast {
namespace {

// The steps of one tile, and whose they are: rows of vectors, of contexts (partners), of contexts (negatives).
struct Steps {
  int64_t n_in, n_out, n_shared;
  const int32_t *in_ids, *out_ids;
  int32_t* negative_ids;
  float *in, *out, *negative;  // (., width)
  SkipgramTotals totals;
};

constexpr float kNone = -80.0f;  // the score of a negative that does not count: its loss and step vanish
constexpr int64_t kAhead = 6;    // rows of a table that are asked for before they are copied: their order is random

void gather(float* out, Rows<float> table, const int32_t* ids, int64_t n, int64_t width) {
  for (int64_t i = 0; i < std::min(kAhead, n); ++i) prefetch(table.row(ids[i]), 4 * table.d);
  for (int64_t i = 0; i < n; ++i) {
    if (i + kAhead < n) prefetch(table.row(ids[i + kAhead]), 4 * table.d);
    const float* row = table.row(ids[i]);
    float* to = out + i * width;
    int64_t c = 0;
    for (; c + kLanes <= table.d; c += kLanes) store(to + c, load(row + c));
    if (c < table.d) store(to + c, load_first(row + c, table.d - c));
  }
}

// dx += sum_j g[j] y_j, dy_j += g[j] x over n rows, NV vectors of each.
template <int NV>
RF_INLINE void pair_steps(float* dx, float* dy, const float* x, const float* y, const float* g, int64_t n,
                          int64_t width) {
  Vec sum[NV], own[NV];
#pragma GCC unroll 8
  for (int v = 0; v < NV; ++v) sum[v] = load(dx + v * kLanes), own[v] = load(x + v * kLanes);
  for (int64_t j = 0; j < n; ++j) {
    const Vec step = broadcast(g[j]);
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      sum[v] += step * load(y + j * width + v * kLanes);
      float* at = dy + j * width + v * kLanes;
      store(at, load(at) + step * own[v]);
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < NV; ++v) store(dx + v * kLanes, sum[v]);
}

class Tiles {
 public:
  Tiles(const SkipgramProblem& problem, const SkipgramPlan& plan)
      : p_(problem), plan_(plan), width_(padded(problem.vectors.d)) {}

  // Floats of one tile's steps, and of one worker's scratch.
  static size_t step_bytes(int64_t width, const SkipgramProblem& p) {
    const auto rows = [&](int64_t n) { return Arena::padded<float>(static_cast<size_t>(n * width)); };
    return rows(p.tile) + rows(kSkipgramPartners) + rows(p.n_shared) +
           Arena::padded<int32_t>(static_cast<size_t>(p.n_shared));
  }
  size_t scratch_bytes() const {
    const auto floats = [](int64_t n) { return Arena::padded<float>(static_cast<size_t>(n)); };
    return floats(p_.tile * width_) + floats(kSkipgramPartners * width_) + 2 * floats(p_.n_shared * width_) +
           floats(p_.tile * p_.n_shared) + floats(kSkipgramPartners);
  }

  void train(int64_t number, Steps& out) const {
    const SkipgramTile& tile = plan_.tiles()[static_cast<size_t>(number)];
    const int64_t n_in = tile.end - tile.begin, n_out = tile.last - tile.first, n_shared = p_.n_shared;
    Arena& arena = thread_arena();
    arena.reset(scratch_bytes());
    const auto take = [&](int64_t n) { return arena.take<float>(static_cast<size_t>(n)); };
    float *x = take(p_.tile * width_), *y = take(kSkipgramPartners * width_), *z = take(n_shared * width_);
    float *zt = take(n_shared * width_), *s = take(p_.tile * n_shared), *g = take(kSkipgramPartners);
    out.n_in = n_in, out.n_out = n_out, out.n_shared = n_shared;
    out.in_ids = plan_.ids() + tile.begin, out.out_ids = plan_.ids() + tile.first;
    out.totals = {};
    negatives_draw<Cpu>(out.negative_ids, n_shared, p_.cdf, p_.vectors.n, p_.seed, p_.epoch,
                        static_cast<uint64_t>(number * n_shared), 1);
    gather(z, p_.contexts, out.negative_ids, n_shared, width_);
    gather(x, p_.vectors, out.in_ids, n_in, width_);
    gather(y, p_.contexts, out.out_ids, n_out, width_);
    for (int64_t k = 0; k < n_shared; k += kLanes) {
      for (int64_t c = 0; c < width_; c += kLanes) {
        transpose_tile(zt + c * n_shared + k, n_shared, z + k * width_ + c, width_);
      }
    }
    const double progress = static_cast<double>(tile.begin) / static_cast<double>(plan_.n_tokens());
    const auto rate = static_cast<float>(p_.learning_rate + (p_.last_learning_rate - p_.learning_rate) * progress);
    gemm(s, n_shared, x, width_, zt, n_shared, n_in, n_shared, width_, false);
    leave_partners_out(out, s, tile);
    std::fill_n(out.in, n_in * width_, 0.0f);
    std::fill_n(out.out, n_out * width_, 0.0f);
    for (int64_t i = 0; i < n_in; ++i) {
      const int64_t token = tile.begin + i;
      const int64_t low = std::max(plan_.low(token), tile.first), high = std::min(plan_.high(token), tile.last);
      const int64_t n = std::max<int64_t>(0, high - low), self = token - low;
      const int64_t n_pairs = n - (self >= 0 && self < n);
      const auto n_partners = static_cast<float>(plan_.high(token) - plan_.low(token) - 1);
      const float share = std::min(1.0f, static_cast<float>(p_.most_pairs) / n_partners);
      if (n > 0) {
        pairs(out, g, x + i * width_, y + (low - tile.first) * width_, i, low - tile.first, n, self, share, rate);
      }
      out.totals.n_pairs += n_pairs;
      const float weight = share * static_cast<float>(p_.n_negatives * n_pairs) / static_cast<float>(n_shared);
      negatives(out, s + i * n_shared, weight, rate);
    }
    gemm(out.in, width_, s, n_shared, z, width_, n_in, width_, n_shared, true);
    transposed_gemm(out.negative, s, x, n_in);
  }

 private:
  void pairs(Steps& out, float* g, const float* x, const float* y, int64_t i, int64_t first, int64_t n, int64_t self,
             float share, float rate) const {
    row_scores<0>(g, x, n, width_, [&](int64_t j) { return y + j * width_; });
    const bool has_self = self >= 0 && self < n;
    double loss = 0.0;
    for (int64_t j = 0; j < n; j += kLanes) {
      const int64_t lanes = std::min<int64_t>(kLanes, n - j);
      const Vec score = load_first_or_all(g + j, lanes);
      const Vec cost = softplus(-score);
      for (int64_t lane = 0; lane < lanes; ++lane) loss += j + lane == self ? 0.0f : cost[lane];
      store_first(g + j, share * rate * sigmoid(-score), lanes);
    }
    if (has_self) g[self] = 0.0f;
    out.totals.loss += double{share} * loss;
    float *dx = out.in + i * width_, *dy = out.out + first * width_;
    int64_t c = 0;
    for (; c + 8 * kLanes <= width_; c += 8 * kLanes) pair_steps<8>(dx + c, dy + c, x + c, y + c, g, n, width_);
    for (; c + 4 * kLanes <= width_; c += 4 * kLanes) pair_steps<4>(dx + c, dy + c, x + c, y + c, g, n, width_);
    for (; c < width_; c += kLanes) pair_steps<1>(dx + c, dy + c, x + c, y + c, g, n, width_);
  }

  static Vec load_first_or_all(const float* at, int64_t n) { return n == kLanes ? load(at) : load_first(at, n); }

  // Turns scores of the shared negatives into steps.
  void negatives(Steps& out, float* s, float weight, float rate) const {
    Vec loss = {};
    for (int64_t k = 0; k < p_.n_shared; k += kLanes) {
      const Vec score = load(s + k);
      loss += softplus(score);
      store(s + k, -(rate * weight) * sigmoid(score));
    }
    out.totals.loss += double{weight} * reduce_add(loss);
  }

  // A negative that is a partner of token i does not count against it. There are few in a large catalogue.
  void leave_partners_out(const Steps& out, float* s, const SkipgramTile& tile) const {
    for (int64_t j = 0; j < out.n_out; ++j) {
      const VecInt id = VecInt{} + out.out_ids[j];
      for (int64_t k = 0; k < p_.n_shared; k += kLanes) {
        for (uint32_t hits = mask_eq(load(out.negative_ids + k), id); hits != 0; hits &= hits - 1) {
          const int64_t negative = k + __builtin_ctz(hits), token = tile.first + j;
          for (int64_t i = 0; i < out.n_in; ++i) {
            const int64_t own = tile.begin + i;
            if (own != token && plan_.low(own) <= token && token < plan_.high(own))
              s[i * p_.n_shared + negative] = kNone;
          }
        }
      }
    }
  }

  // c (n_shared, width) = s^T x, s (n_in, n_shared).
  void transposed_gemm(float* c, const float* s, const float* x, int64_t n_in) const {
    for (int64_t j = 0; j < width_; j += kTileVectors * kLanes) {
      const int n_vectors = static_cast<int>(std::min<int64_t>(kTileVectors, (width_ - j) / kLanes));
      for (int64_t k = 0; k < p_.n_shared; k += kTileRows) {
        const int n_rows = static_cast<int>(std::min<int64_t>(kTileRows, p_.n_shared - k));
        gemm_tile_any(n_rows, n_vectors, n_in, s + k, 1, p_.n_shared, x + j, width_, c + k * width_ + j, width_, 1.0f,
                      false);
      }
    }
  }

  const SkipgramProblem& p_;
  const SkipgramPlan& plan_;
  int64_t width_;
};

// Adds the steps of ids whose hash falls to `share`, in order.
class Merge {
 public:
  Merge(const SkipgramProblem& problem, int n_shares) : p_(problem), n_shares_(n_shares) {}

  void add(const Steps& steps, int64_t width, int share) const {
    add(p_.vectors, steps.in_ids, steps.in, steps.n_in, width, share);
    add(p_.contexts, steps.out_ids, steps.out, steps.n_out, width, share);
    add(p_.contexts, steps.negative_ids, steps.negative, steps.n_shared, width, share);
  }

 private:
  bool mine(int32_t id, int share) const {
    if (p_.moves != nullptr && p_.moves[id] == 0) return false;
    return n_shares_ == 1 || to_range(static_cast<uint32_t>(id) * 2654435761u, n_shares_) == share;
  }
  void add(Rows<float> table, const int32_t* ids, const float* steps, int64_t n, int64_t width, int share) const {
    for (int64_t i = 0; i < n; ++i) {
      if (mine(ids[i], share)) axpy(table.row(ids[i]), 1.0f, steps + i * width, table.d);
    }
  }

  const SkipgramProblem& p_;
  int n_shares_;
};

}  // namespace

template <>
SkipgramTotals skipgram_epoch<Cpu>(const SkipgramProblem& problem, int n_threads) {
  const SkipgramPlan plan(problem, n_threads);
  const auto n_tiles = static_cast<int64_t>(plan.tiles().size());
  const int64_t width = padded(problem.vectors.d);
  const int64_t per_round = problem.n_tiles;
  const size_t bytes = Tiles::step_bytes(width, problem);
  Arena arena;
  arena.reset(bytes * static_cast<size_t>(per_round));
  std::vector<Steps> steps(static_cast<size_t>(per_round));
  for (Steps& some : steps) {
    const auto take = [&](int64_t n) { return arena.take<float>(static_cast<size_t>(n * width)); };
    some.in = take(problem.tile), some.out = take(kSkipgramPartners), some.negative = take(problem.n_shared);
    some.negative_ids = arena.take<int32_t>(static_cast<size_t>(problem.n_shared));
  }
  const Tiles tiles(problem, plan);
  const Merge merge(problem, n_threads);
  SkipgramTotals totals;
  for (int64_t first = 0; first < n_tiles; first += per_round) {
    const int64_t n = std::min(per_round, n_tiles - first);
    parallel_for(n, 1, n_threads, [&](int64_t begin, int64_t end, int) {
      for (int64_t t = begin; t < end; ++t) tiles.train(first + t, steps[static_cast<size_t>(t)]);
    });
    parallel_for(n_threads, 1, n_threads, [&](int64_t begin, int64_t end, int) {
      for (int64_t share = begin; share < end; ++share) {
        for (int64_t t = 0; t < n; ++t) merge.add(steps[static_cast<size_t>(t)], width, static_cast<int>(share));
      }
    });
    for (int64_t t = 0; t < n; ++t) {
      totals.loss += steps[static_cast<size_t>(t)].totals.loss;
      totals.n_pairs += steps[static_cast<size_t>(t)].totals.n_pairs;
    }
  }
  return totals;
}

}  // namespace recsys_fast
