// Exact top-k for many queries. Tiles of queries meet panels of items sorted by norm; a query leaves its tile when
// |q| |y| is below its threshold, the k-th best score so far, for all y left (Cauchy-Schwarz; Teflioudi, Gemulla &
// Mykytiuk, "LEMP", SIGMOD 2015). A panel is left where it shows that no score reaches the threshold: by products of
// bytes and a bound on what rounding hides, where the machine multiplies bytes; else, in a basis that puts most of a
// product into its first coordinates, by these and the norms of the rest. What is left is scored again by dot(), so
// lists depend on none of this.
#include "cpu/topk_scan.h"

#include <algorithm>
#include <vector>

#include "core/thread_pool.h"
#include "cpu/topk_basis.h"
#include "cpu/topk_candidates.h"
#include "cpu/topk_panels.h"
#include "cpu/topk_tile.h"

namespace recsys_fast {
namespace {

constexpr int64_t kDirectQueries = 16;  // so many are served sooner without packing the items
constexpr float kLargestScore = 1e37f;  // beyond, sums may overflow in one order and not in another
constexpr int64_t kTileQueries = 40 * kTileRows;
constexpr int64_t kTileBytes = int64_t{1} << 20;  // candidate buffers of a tile, about
constexpr double kTileWork = 1e9;                 // multiply-adds of a tile, about: how soon Ctrl-C is honoured

// A query of zeros: all eligible items tie at 0, but for those with which it has no score at all.
void rank_by_id(const RankTask& task, int64_t query, RankSink& sink) {
  const IdRow seen = task.seen(query);
  std::vector<int32_t> ids;
  for (int64_t j = 0; j < task.n_candidates() && std::ssize(ids) < task.k; ++j) {
    const auto id = task.candidate(j);
    const float score = dot(task.queries.row(query), task.items.row(id), task.items.d);
    if (score == 0.0f && !seen.contains(id)) ids.push_back(id);
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

  const Basis basis(task.items, task.n_candidates(), task.n_wanted, n_threads);
  const bool with_bytes = has_byte_dot() && task.items.d <= kWidestBytes;
  const ItemPanels panels(task.items, task.eligible.candidates, task.n_candidates(), basis, with_bytes, n_threads);
  if (!(largest * panels.norm_bound(0) < kLargestScore)) return rank_items_directly(task, sink, n_threads);
  const int64_t capacity = Selection::capacity_for(task.k);
  const int64_t tile = tile_queries(task, std::min(kTileQueries, kTileBytes / (8 * capacity)), n_threads);
  parallel_for(task.n_wanted, tile, n_threads, [&](int64_t begin, int64_t end, int) {
    Tile queries(task, basis, panels, begin, end, capacity);
    queries.scan();
    queries.finish(sink);
  });
}

}  // namespace recsys_fast
