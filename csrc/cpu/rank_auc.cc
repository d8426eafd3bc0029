#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/arena.h"
#include "core/thread_pool.h"
#include "cpu/id_row.h"
#include "cpu/topk_panels.h"
#include "cpu/topk_scan.h"
#include "ops/rank_metrics.h"

namespace recsys_fast {
namespace {

constexpr int64_t kTileQueries = 8 * kTileRows;

// Users against all panels. What is counted over all candidates is then taken back for the seen and the relevant ones,
// whose scores come from the same sums in the same order and so compare equal to themselves.
class AucTile {
 public:
  AucTile(const RankTask& task, const Csr& test, const ItemPanels& panels)
      : task_(task), test_(test), panels_(panels), d_(panels.d), own_panel_(static_cast<size_t>(d_ * kPanel)) {}

  void run(double* out, int64_t begin, int64_t end);

 private:
  struct User {
    int64_t id;
    std::vector<float> relevant;  // scores of the eligible relevant items
    int64_t n_others;             // candidates that are neither seen nor relevant
    int64_t below;                // pairs in the right order, twice, and tied ones
  };

  void start(User& user, int64_t slot);
  void score(int64_t slot, const std::vector<int32_t>& ids, std::vector<float>& scores);
  void count(int64_t panel, int64_t first, int64_t n);
  bool is_candidate(int32_t id) const {
    return task_.eligible.candidates == nullptr
               ? id < task_.items.n
               : IdRow{task_.eligible.candidates, task_.eligible.n_candidates}.contains(id);
  }

  const RankTask& task_;
  const Csr& test_;
  const ItemPanels& panels_;
  const int64_t d_;
  std::vector<float> own_panel_;
  float* rows_ = nullptr;
  std::vector<User> users_;
};

// Twice how many relevant scores are above `score`, plus those equal to it.
int64_t twice_above(const std::vector<float>& relevant, float score) {
  int64_t n = 0;
  for (const float own : relevant) n += (own > score) + (own >= score);
  return n;
}

// scores[j] of the items ids[j] for the query in a slot.
void AucTile::score(int64_t slot, const std::vector<int32_t>& ids, std::vector<float>& scores) {
  scores.resize(static_cast<size_t>(padded(std::ssize(ids) + kPanel)));
  for (int64_t at = 0; at < std::ssize(ids); at += kPanel) {
    const int64_t n = std::min<int64_t>(kPanel, std::ssize(ids) - at);
    pack_panel(own_panel_.data(), task_.items, ids.data() + at, n);
    Vec sum[1][kTileVectors] = {};
    const float* const row[1] = {query_slot(rows_, slot, d_)};
    gemm_accumulate(sum, d_, row, kTileRows, own_panel_.data(), kPanel);
    for (int v = 0; v < kTileVectors; ++v) store(scores.data() + at + v * kLanes, sum[0][v]);
  }
  scores.resize(ids.size());
}

void AucTile::start(User& user, int64_t slot) {
  const IdRow seen = task_.seen(user.id);
  const IdRow test{test_.col_idx + test_.row_ptr[user.id], test_.row_size(user.id)};
  std::vector<int32_t> ids;
  for (int64_t j = 0; j < test.n; ++j) {
    if (is_candidate(test.ids[j]) && !seen.contains(test.ids[j])) ids.push_back(test.ids[j]);
  }
  score(slot, ids, user.relevant);
  for (const float own : user.relevant) user.below -= twice_above(user.relevant, own);
  ids.clear();
  for (int64_t j = 0; j < seen.n; ++j) {
    if (is_candidate(seen.ids[j])) ids.push_back(seen.ids[j]);
  }
  std::vector<float> scores;
  score(slot, ids, scores);
  for (const float other : scores) user.below -= twice_above(user.relevant, other);
  user.n_others = panels_.n - std::ssize(user.relevant) - std::ssize(ids);
}

void AucTile::count(int64_t panel, int64_t first, int64_t n) {
  Vec sum[kTileRows][kTileVectors] = {};
  const float* rows[kTileRows];
  for (int i = 0; i < kTileRows; ++i) rows[i] = rows_ + first * d_ + i;
  gemm_accumulate(sum, d_, rows, kTileRows, panels_.panel(panel), kPanel);
  const int64_t width = panels_.width(panel);
  for (int i = 0; i < kTileRows; ++i) {
    if (i >= n) return;
    alignas(64) float scores[kPanel];
#pragma GCC unroll 8
    for (int v = 0; v < kTileVectors; ++v) store(scores + v * kLanes, sum[i][v]);
    for (int64_t j = width; j < kPanel; ++j) scores[j] = std::numeric_limits<float>::infinity();
    VecInt below = {};
    for (const float own : users_[static_cast<size_t>(first + i)].relevant) {
      for (int v = 0; v < kTileVectors; ++v) {
        const Vec other = load(scores + v * kLanes);
        below -= (other < own) + (other <= own);
      }
    }
    for (int lane = 0; lane < kLanes; ++lane) users_[static_cast<size_t>(first + i)].below += below[lane];
  }
}

void AucTile::run(double* out, int64_t begin, int64_t end) {
  const int64_t n = end - begin, n_slots = (n + kTileRows - 1) / kTileRows * kTileRows;
  Arena& arena = thread_arena();
  arena.reset(Arena::padded<float>(static_cast<size_t>(n_slots * d_)));
  rows_ = arena.take<float>(static_cast<size_t>(n_slots * d_));
  std::fill_n(rows_, n_slots * d_, 0.0f);
  users_.assign(static_cast<size_t>(n), {});
  for (int64_t i = 0; i < n; ++i) {
    User& user = users_[static_cast<size_t>(i)];
    user.id = task_.query(begin + i);
    copy_strided(query_slot(rows_, i, d_), task_.queries.row(user.id), d_, kTileRows, 1);
    start(user, i);
  }
  for (int64_t p = 0; p < panels_.n_panels; ++p) {
    for (int64_t first = 0; first < n; first += kTileRows) count(p, first, n - first);
  }
  for (const User& user : users_) {
    const double n_pairs = static_cast<double>(test_.row_size(user.id)) * static_cast<double>(user.n_others);
    out[user.id] =
        n_pairs > 0.0 ? static_cast<double>(user.below) / (2.0 * n_pairs) : std::numeric_limits<double>::quiet_NaN();
  }
}

}  // namespace

template <>
void rank_auc<Cpu>(double* out, Rows<const float> queries, Rows<const float> items, const Eligible& eligible, Csr test,
                   int n_threads) {
  std::vector<int32_t> wanted;
  for (int64_t user = 0; user < queries.n; ++user) {
    out[user] = std::numeric_limits<double>::quiet_NaN();
    if (test.row_size(user) > 0) wanted.push_back(static_cast<int32_t>(user));
  }
  const RankTask task{queries, items, eligible, 0, wanted.data(), std::ssize(wanted)};
  const Basis as_they_are(items, task.n_candidates(), 0, n_threads);
  const ItemPanels panels(items, eligible.candidates, task.n_candidates(), as_they_are, false, n_threads);
  parallel_for(task.n_wanted, tile_queries(task, kTileQueries, n_threads), n_threads,
               [&](int64_t begin, int64_t end, int) { AucTile(task, test, panels).run(out, begin, end); });
}

}  // namespace recsys_fast
