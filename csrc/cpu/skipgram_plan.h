// What an epoch of skip-gram goes through: the tokens that stay, how far each looks, and the tiles.
#pragma once

#include <algorithm>
#include <vector>

#include "core/rng_lanes.h"
#include "core/thread_pool.h"
#include "ops/skipgram.h"

namespace recsys_fast {

class SkipgramPlan {
 public:
  SkipgramPlan(const SkipgramProblem& p, int n_threads) {
    draw(p, n_threads);
    const int64_t n = n_tokens();
    for (int64_t begin = 0; begin < n; begin += p.tile) {
      const int64_t end = std::min(n, begin + p.tile);
      int64_t first = n, last = 0;
      for (int64_t i = begin; i < end; ++i) {
        first = std::min(first, low(i));
        last = std::max(last, high(i));
      }
      for (; first < last; first += kSkipgramPartners)
        add({begin, end, first, std::min(last, first + kSkipgramPartners)});
    }
  }

  int64_t n_tokens() const { return static_cast<int64_t>(ids_.size()); }
  const int32_t* ids() const { return ids_.data(); }
  const std::vector<SkipgramTile>& tiles() const { return tiles_; }
  // Token i is paired with the tokens [low, high), itself left out.
  int64_t low(int64_t i) const { return low_[i]; }
  int64_t high(int64_t i) const { return high_[i]; }

 private:
  // The tokens that stay, row by row, and their ranges.
  void draw(const SkipgramProblem& p, int n_threads) {
    const int64_t n = p.row_ptr[p.n_rows];
    std::vector<int32_t> reach(n);  // 0: the token goes
    parallel_for(n, 4096, n_threads, [&](int64_t begin, int64_t end, int) {
      uint64_t sample[kDrawLanes];
      uint32_t words[4 * kDrawLanes];
      const uint32_t blocks[kDrawLanes] = {};
      for (int64_t e = begin; e < end; e += kDrawLanes) {
        for (int lane = 0; lane < kDrawLanes; ++lane) sample[lane] = static_cast<uint64_t>(e + lane);
        draw4_lanes(p.seed, p.epoch, sample, blocks, words);
        const int64_t lanes = std::min<int64_t>(kDrawLanes, end - e);
        for (int64_t lane = 0; lane < lanes; ++lane) {
          const uint32_t* word = words + 4 * lane;
          reach[e + lane] = skipgram_reach(p, p.ids[e + lane], word[0], word[1]);
        }
      }
    });
    ids_.reserve(n);
    low_.reserve(n);
    high_.reserve(n);
    for (int64_t row = 0; row < p.n_rows; ++row) {
      const int64_t begin = n_tokens();
      for (int64_t e = p.row_ptr[row]; e < p.row_ptr[row + 1]; ++e) {
        if (reach[e] == 0) continue;
        low_.push_back(std::max<int64_t>(begin, n_tokens() - reach[e]));
        high_.push_back(n_tokens() + reach[e] + 1);
        ids_.push_back(p.ids[e]);
      }
      const int64_t end = n_tokens();
      for (int64_t i = begin; i < end; ++i) high_[i] = std::min(high_[i], end);
      if (end - begin == 1) {  // nobody to be paired with
        ids_.pop_back();
        low_.pop_back();
        high_.pop_back();
      }
    }
  }

  // Adds a tile without the tokens at its ends that have no partner in it; none if nobody has.
  void add(SkipgramTile tile) {
    const auto alone = [&](int64_t i) { return high_[i] <= tile.first || low_[i] >= tile.last; };
    while (tile.begin < tile.end && alone(tile.begin)) ++tile.begin;
    while (tile.begin < tile.end && alone(tile.end - 1)) --tile.end;
    if (tile.begin < tile.end) tiles_.push_back(tile);
  }

  std::vector<int32_t> ids_;
  std::vector<int64_t> low_, high_;
  std::vector<SkipgramTile> tiles_;
};

}  // namespace recsys_fast
