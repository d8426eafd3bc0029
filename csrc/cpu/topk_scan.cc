// Exact top-k for many queries. Tiles of queries meet panels of items sorted by norm; a score leaves the registers only
// where a panel holds one that reaches its query's threshold; a query leaves the tile when |q| |y| is below it for all
// y left (Cauchy-Schwarz; Teflioudi, Gemulla & Mykytiuk, "LEMP", SIGMOD 2015).
#include "cpu/topk_scan.h"

#include <cmath>
#include <vector>

#include "core/arena.h"
#include "core/thread_pool.h"
#include "cpu/topk_candidates.h"
#include "cpu/topk_panels.h"

namespace recsys_fast {
namespace {

constexpr int64_t kDirectQueries = 16;  // so many are served sooner without packing the items
constexpr float kLargestScore = 1e37f;  // beyond, sums may overflow in one order and not in another
constexpr int64_t kTileQueries = 40 * kTileRows;
constexpr int64_t kTileBytes = int64_t{1} << 20;  // candidate buffers of a tile, about
constexpr double kTileWork = 1.5e9;               // multiply-adds of a tile, about: how soon Ctrl-C is honoured

// Queries on their way through the panels, the active ones first.
class Tile {
 public:
  Tile(const RankTask& task, const ItemPanels& panels, int64_t begin, int64_t end, int64_t capacity);
  void scan();
  void finish(RankSink& sink);

 private:
  void load(int64_t slot, int64_t query, float* scores, int32_t* ids);
  void retire(float norm_bound);
  void meet(int64_t panel, int64_t first);

  const RankTask& task_;
  const ItemPanels& panels_;
  const int64_t d_, n_;
  int64_t n_active_;
  Selection selection_;
  float* rows_;        // groups of kTileRows slots, (d, kTileRows) each
  float* thresholds_;  // per slot
  float* norms_;
  float* slacks_;
  int64_t* queries_;
  Candidates* candidates_;
};

Tile::Tile(const RankTask& task, const ItemPanels& panels, int64_t begin, int64_t end, int64_t capacity)
    : task_(task), panels_(panels), d_(panels.d), n_(end - begin), n_active_(n_) {
  const int64_t n_slots = (n_ + kTileRows - 1) / kTileRows * kTileRows;
  Arena& arena = thread_arena();
  const auto size = [](int64_t count) { return static_cast<size_t>(count); };
  arena.reset(Arena::padded<float>(size(n_slots * d_)) + 3 * Arena::padded<float>(size(n_slots)) +
              Arena::padded<int64_t>(size(n_slots)) + Arena::padded<Candidates>(size(n_slots)) +
              Arena::padded<uint64_t>(size(capacity)) + 2 * Arena::padded<float>(size(n_ * capacity)));
  selection_ = {task.k, capacity, task.items, arena.take<uint64_t>(size(capacity))};
  rows_ = arena.take<float>(size(n_slots * d_));
  thresholds_ = arena.take<float>(size(n_slots));
  norms_ = arena.take<float>(size(n_slots));
  slacks_ = arena.take<float>(size(n_slots));
  queries_ = arena.take<int64_t>(size(n_slots));
  candidates_ = arena.take<Candidates>(size(n_slots));
  float* scores = arena.take<float>(size(n_ * capacity));
  int32_t* ids = arena.take<int32_t>(size(n_ * capacity));
  for (int64_t i = 0; i < n_; ++i) load(i, task.query(begin + i), scores + i * capacity, ids + i * capacity);
  for (int64_t i = n_; i < n_slots; ++i) {  // rows that nothing passes
    const float zero = 0.0f;
    copy_strided(query_slot(rows_, i, d_), &zero, d_, kTileRows, 0);
    thresholds_[i] = -kNoScore;
  }
}

void Tile::load(int64_t slot, int64_t query, float* scores, int32_t* ids) {
  const float* from = task_.queries.row(query);
  copy_strided(query_slot(rows_, slot, d_), from, d_, kTileRows, 1);
  queries_[slot] = query;
  norms_[slot] = row_norm(from, d_);
  // Twice |sum in another order - dot(q, y)| <= 2 d u |q| |y|, u = 2^-24, and what underflow loses.
  const double slack = 0x1p-22 * norms_[slot] * panels_.norm_bound(0) + 0x1p-146;
  slacks_[slot] = static_cast<float>(static_cast<double>(d_) * slack);
  thresholds_[slot] = kNoScore;
  candidates_[slot].start(selection_, scores, ids, from, task_.seen(query), slacks_[slot]);
}

// Moves the queries that no item from a panel on can serve behind the active ones.
void Tile::retire(float norm_bound) {
  for (int64_t i = 0; i < n_active_; ++i) {
    while (i < n_active_ && norms_[i] * norm_bound + slacks_[i] < thresholds_[i]) {
      const int64_t last = --n_active_;
      copy_strided(query_slot(rows_, i, d_), query_slot(rows_, last, d_), d_, kTileRows, kTileRows);
      norms_[i] = norms_[last];
      slacks_[i] = slacks_[last];
      thresholds_[i] = thresholds_[last];
      thresholds_[last] = -kNoScore;
      std::swap(queries_[i], queries_[last]);
      std::swap(candidates_[i], candidates_[last]);
    }
  }
}

// Scores of kTileRows slots with one panel; offers those that reach their query's threshold.
RF_INLINE void Tile::meet(int64_t panel, int64_t first) {
  Vec sum[kTileRows][kTileVectors] = {};
  gemm_accumulate(sum, d_, rows_ + first * d_, 1, kTileRows, panels_.panel(panel), kPanel);
  uint32_t reached[kTileRows], any_reached = 0;
#pragma GCC unroll 16
  for (int i = 0; i < kTileRows; ++i) {
    Vec most = sum[i][0];
#pragma GCC unroll 8
    for (int v = 1; v < kTileVectors; ++v) most = max(most, sum[i][v]);
    reached[i] = mask_ge(most, broadcast(thresholds_[first + i]));
    any_reached |= reached[i];
  }
  if (__builtin_expect(any_reached == 0, 1)) return;
  alignas(64) float block[kTileRows * kPanel];
#pragma GCC unroll 16
  for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 8
    for (int v = 0; v < kTileVectors; ++v) store(block + i * kPanel + v * kLanes, sum[i][v]);
  }
  for (int i = 0; i < kTileRows; ++i) {
    if (reached[i] == 0) continue;
    Candidates& candidates = candidates_[first + i];
    candidates.offer(selection_, block + i * kPanel, panels_.ids(panel), panels_.width(panel));
    thresholds_[first + i] = candidates.threshold();
  }
}

void Tile::scan() {
  for (int64_t p = 0; p < panels_.n_panels; ++p) {
    retire(panels_.norm_bound(p));
    if (n_active_ == 0) return;
    for (int64_t first = 0; first < n_active_; first += kTileRows) meet(p, first);
  }
}

void Tile::finish(RankSink& sink) {
  for (int64_t i = 0; i < n_; ++i) {
    Candidates& candidates = candidates_[i];
    candidates.thin_out(selection_);
    candidates.settle(selection_);
    sink.take(queries_[i], candidates.ids(), candidates.scores(), candidates.size());
  }
}

// All eligible items tie at 0: the first by id.
void rank_by_id(const RankTask& task, int64_t query, RankSink& sink) {
  const IdRow seen = task.seen(query);
  std::vector<int32_t> ids;
  for (int64_t j = 0; j < task.n_candidates() && std::ssize(ids) < task.k; ++j) {
    const auto id = task.eligible.candidates == nullptr ? static_cast<int32_t>(j) : task.eligible.candidates[j];
    if (!seen.contains(id)) ids.push_back(id);
  }
  const std::vector<float> scores(ids.size(), 0.0f);
  sink.take(query, ids.data(), scores.data(), std::ssize(ids));
}

}  // namespace

int64_t tile_queries(const RankTask& task, int64_t most, int n_threads) {
  const double row_work = static_cast<double>(std::max<int64_t>(1, task.n_candidates() * task.items.d));
  const int64_t n = std::min({most, static_cast<int64_t>(kTileWork / row_work), task.n_wanted / (4 * n_threads)});
  return std::max<int64_t>(1, n / kTileRows) * kTileRows;
}

void rank_items(const RankTask& given, RankSink& sink, int n_threads) {
  RankTask task = given;
  task.k = std::min(task.k, task.n_candidates());
  std::vector<int32_t> active;
  float largest = 0.0f;
  for (int64_t i = 0; i < given.n_wanted; ++i) {
    const int64_t query = given.query(i);
    const float norm = row_norm(task.queries.row(query), task.queries.d);
    largest = std::max(largest, norm);
    if (norm == 0.0f || task.k == 0) {
      rank_by_id(task, query, sink);
    } else {
      active.push_back(static_cast<int32_t>(query));
    }
  }
  task.wanted = active.data();
  task.n_wanted = std::ssize(active);
  if (task.n_wanted <= kDirectQueries) return rank_items_directly(task, sink, n_threads);

  const ItemPanels panels(task.items, task.eligible.candidates, task.n_candidates(), n_threads);
  if (!(largest * panels.norm_bound(0) < kLargestScore)) return rank_items_directly(task, sink, n_threads);
  const int64_t capacity = Selection::capacity_for(task.k);
  const int64_t tile = tile_queries(task, std::min(kTileQueries, kTileBytes / (8 * capacity)), n_threads);
  parallel_for(task.n_wanted, tile, n_threads, [&](int64_t begin, int64_t end, int) {
    Tile tile(task, panels, begin, end, capacity);
    tile.scan();
    tile.finish(sink);
  });
}

}  // namespace recsys_fast
