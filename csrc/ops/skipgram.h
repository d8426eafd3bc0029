// Skip-gram with negative sampling over rows of tokens: sessions, baskets, texts.
#pragma once

#include "core/device.h"
#include "core/rng.h"
#include "core/views.h"

namespace recsys_fast {

// keep (n) is the probability with which a token stays in an epoch, cdf (n) the running sums of the weights that
// negatives are drawn by, moves (n) which rows of both tables move; each may be null: all stay, uniform, all.
struct SkipgramProblem {
  Rows<float> vectors, contexts;  // (n, d), updated in place
  const int64_t* row_ptr;         // (n_rows + 1)
  const int32_t* ids;             // (row_ptr[n_rows])
  int64_t n_rows;
  const float* keep;
  const double* cdf;
  const uint8_t* moves;
  int64_t window;         // partners on either side at most
  bool reduced;           // each token's window is drawn from 1 .. window
  int64_t most_pairs;     // what a token counts as at most: with n partners min(1, most_pairs / n) each
  int n_negatives;        // of each pair
  int n_shared;           // negatives of a tile, a multiple of 16
  int64_t tile, n_tiles;  // tokens of a tile, at most 64; tiles of a round
  double learning_rate, last_learning_rate;  // of the first token, and just after the last
  uint64_t seed;
  uint32_t epoch;
};

// How far a token looks, from the first two random words of its entry; 0: it does not stay.
RF_HOST_DEVICE inline int32_t skipgram_reach(const SkipgramProblem& p, int32_t id, uint32_t first, uint32_t second) {
  if (p.keep != nullptr && first >= double{p.keep[id]} * 0x1p32) return 0;
  const auto window = static_cast<int32_t>(p.window);
  return p.reduced ? 1 + to_range(second, window) : window;
}

inline constexpr int64_t kSkipgramPartners = 128;  // of a tile; where there are more, another tile has them

// Positions [begin, end) of the stream of tokens that stay, and the positions [first, last) they are paired with.
struct SkipgramTile {
  int64_t begin, end, first, last;
};

// loss: sum over pairs and weighted negatives, each before its update.
struct SkipgramTotals {
  double loss = 0.0;
  int64_t n_pairs = 0;
};

// Tokens that stay are cut into tiles. Token i of a tile pairs with every j != i of its row that its window
// reaches, with weight v_i = min(1, most_pairs / partners of i); the tile draws n_shared negatives k with weight
// w_i = v_i * n_negatives * (pairs of i in the tile) / n_shared, none that is a partner of i. With x, y rows of vectors
// and contexts the loss is
//   sum_ij -v_i log sigmoid(x_i . y_j) - sum_ik w_i log sigmoid(-x_i . y_k)
// (Mikolov et al. 2013; shared negatives: Ji et al. 2016). Tiles of a round see the tables of its start, and their
// steps are added up in order: the same bits for any n_threads.
template <class Device>
SkipgramTotals skipgram_epoch(const SkipgramProblem& problem, int n_threads);

}  // namespace recsys_fast
