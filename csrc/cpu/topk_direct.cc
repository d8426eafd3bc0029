#include <memory>
#include <vector>

#include "core/arena.h"
#include "core/thread_pool.h"
#include "cpu/topk_candidates.h"
#include "cpu/topk_scan.h"

namespace recsys_fast {
namespace {

constexpr int64_t kMostQueries = 32;                // that share a pass over the items
constexpr int64_t kBufferBytes = int64_t{8} << 20;  // of a worker, about
constexpr int64_t kChunk = 16 * kScoreBlock;        // items that a worker takes at once
constexpr int64_t kWorkerWork = 1 << 18;            // multiply-adds that are worth waking another thread

// What one worker has found so far for every query of a pass.
class Finder {
 public:
  Finder(const RankTask& task, int64_t first, int64_t n_queries) : n_queries_(n_queries) {
    const int64_t capacity = Selection::capacity_for(task.k);
    const auto n = static_cast<size_t>(n_queries * capacity);
    memory_.reset(Arena::padded<uint64_t>(static_cast<size_t>(capacity)) + 2 * Arena::padded<float>(n) +
                  Arena::padded<Candidates>(static_cast<size_t>(n_queries)));
    selection = {task.k, capacity, task.items, memory_.take<uint64_t>(static_cast<size_t>(capacity))};
    candidates = memory_.take<Candidates>(static_cast<size_t>(n_queries));
    float* scores = memory_.take<float>(n);
    int32_t* ids = memory_.take<int32_t>(n);
    for (int64_t i = 0; i < n_queries; ++i) {
      const int64_t query = task.query(first + i);
      candidates[i].start(selection, scores + i * capacity, ids + i * capacity, task.queries.row(query),
                          task.seen(query), 0.0f);
    }
  }

  // Looks at the candidates at [begin, end).
  void look(const RankTask& task, int64_t begin, int64_t end) {
    const int64_t d = task.items.d;
    float scores[kScoreBlock];
    int32_t ids[kScoreBlock];
    for (int64_t at = begin; at < end; at += kScoreBlock) {
      const int64_t n = std::min<int64_t>(kScoreBlock, end - at);
      for (int64_t j = 0; j < kScoreBlock; ++j) {
        ids[j] = task.candidate(at + std::min(j, n - 1));  // repeats fill the last group of 8
      }
      for (int64_t i = 0; i < n_queries_; ++i) {
        const float* query = candidates[i].query();
        for (int64_t j = 0; j < n; j += 8) {
          Vec lanes[8];
          for (int r = 0; r < 8; ++r) lanes[r] = dot_lanes(query, task.items.row(ids[j + r]), d);
          reduce_add8(lanes, scores + j);
        }
        candidates[i].offer(selection, scores, ids, n);
      }
    }
  }

  Selection selection;
  Candidates* candidates;

 private:
  int64_t n_queries_;
  Arena memory_;
};

}  // namespace

void rank_items_directly(const RankTask& task, RankSink& sink, int n_threads) {
  const int64_t n = task.n_candidates();
  const int64_t bytes = 8 * Selection::capacity_for(task.k);
  const int64_t pass = std::clamp<int64_t>(kBufferBytes / bytes, 1, kMostQueries);
  for (int64_t first = 0; first < task.n_wanted; first += pass) {
    const int64_t n_queries = std::min(pass, task.n_wanted - first);
    const int64_t useful = 1 + n * n_queries * task.items.d / kWorkerWork;
    const int n_workers = static_cast<int>(std::min<int64_t>(n_threads, useful));
    std::vector<std::unique_ptr<Finder>> finders(static_cast<size_t>(n_workers));
    parallel_for(n, kChunk, n_workers, [&](int64_t begin, int64_t end, int worker) {
      auto& finder = finders[static_cast<size_t>(worker)];
      if (!finder) finder = std::make_unique<Finder>(task, first, n_queries);
      finder->look(task, begin, end);
    });
    for (int64_t i = 0; i < n_queries; ++i) {
      Finder* all = nullptr;
      for (const auto& finder : finders) {
        if (!finder) continue;
        Candidates& own = finder->candidates[i];
        if (all == nullptr) {
          all = finder.get();
          continue;
        }
        for (int64_t j = 0; j < own.size(); j += kScoreBlock) {
          all->candidates[i].offer(all->selection, own.scores() + j, own.ids() + j,
                                   std::min<int64_t>(kScoreBlock, own.size() - j));
        }
      }
      Candidates& best = all->candidates[i];
      best.thin_out(all->selection);
      best.settle(all->selection);
      sink.take(task.query(first + i), best.ids(), best.scores(), best.size());
    }
  }
}

}  // namespace recsys_fast
