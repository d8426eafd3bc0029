// Tiles of a round see the tables of its start: one launch makes the steps of all of them, another adds the steps up.
//
// Steps: a block takes a tile of up to 64 tokens and 64 of what they are scored against, partners or shared negatives.
// Scores are a product of gathered rows; they become coefficients, which stay in shared memory, the way the products
// with tokens and with partners read them, each. Which partners a token has is a mask of 128 bits; a negative that is
// one of them is found by comparing each of 64 with 128 ids once.
//
// Adding up: every row of the tables belongs to one warp, by a hash of its id. A warp looks through the ids of all
// steps in order, 256 at a time, and adds those that are its own: no sorting, no atomics, and the order of the
// additions to a row is that of the tiles.
#include <algorithm>

#include "cuda/gathered_rows.h"
#include "cuda/reduce.h"
#include "cuda/sigmoid.h"
#include "cuda/skipgram_plan.h"
#include "cuda/sum.h"
#include "ops/negatives.h"

namespace recsys_fast {
namespace {

constexpr int kPartners = static_cast<int>(kSkipgramPartners), kWords = kPartners / 32;
constexpr int kPartnerTiles = kPartners / kGemmTile;
constexpr int kKept = kGemmTile * kGemmStride;  // floats of the coefficients of a block
constexpr int64_t kDraws = int64_t{1} << 20;    // negatives that are drawn at once, where a round has no more
static_assert(kPartnerTiles == 2);
constexpr int kMergeThreads = 256, kMergeWarps = kMergeThreads / kWarpSize, kIdsAhead = 8;

// The steps of a round's tiles. An entry is a step of one row: of the tile's tokens, then of their partners, then of
// the negatives. A token's step comes in one part per block that took its tile.
struct RoundSteps {
  const SkipgramTile* tiles;
  const int32_t* negatives;  // (n, n_shared)
  int32_t* ids;              // (n, slots()), -1 where there is no step
  float *in, *out;           // (n, parts, tile, d); (n, partners and n_shared, d)
  double *losses, *pairs;    // (n, parts), (n)
  int64_t n, first;          // tiles of the round, and those before
  int tile, n_shared, parts;
  int64_t d;

  __device__ int slots() const { return tile + kPartners + n_shared; }
  __device__ float* token(int64_t t, int part, int i) const { return in + (((t * parts + part) * tile) + i) * d; }
  __device__ float* other(int64_t t, int slot) const { return out + (t * (kPartners + n_shared) + slot) * d; }
};

// Bits [low, high) of 32, of which low may be below 0 and high above 32.
__device__ uint32_t bits_between(int low, int high) {
  low = max(low, 0);
  high = min(high, 32);
  if (low >= high) return 0;
  return (high - low == 32 ? ~0u : (1u << (high - low)) - 1) << low;
}

// Block (tile of the round, part).
__global__ void __launch_bounds__(kGemmThreads)
    skipgram_steps_kernel(RoundSteps steps, SkipgramProblem p, SkipgramStream tokens) {
  RF_SHARED(float, room, 2 * kKept + 2 * kGemmPanel);  // coefficients both ways, and two panels beside them
  RF_SHARED(int32_t, in_ids, kGemmTile);
  RF_SHARED(int32_t, other_ids, kGemmTile);
  RF_SHARED(int32_t, partner_ids, kPartners);
  RF_SHARED(uint32_t, reached, kGemmTile* kWords);  // the partners of each token
  RF_SHARED(uint32_t, equal, kGemmTile* kWords);    // and those that are the same as each negative
  RF_SHARED(float, shares, kGemmTile);
  RF_SHARED(float, weights, kGemmTile);
  RF_SHARED(double, scratch, kGemmThreads / kWarpSize);
  const Shared<float> kept_in = room, kept_out = room + kKept, panels = room + 2 * kKept;
  const int thread = static_cast<int>(threadIdx.x), part = static_cast<int>(blockIdx.y);
  const int64_t t = blockIdx.x, d = steps.d;
  const SkipgramTile tile = steps.tiles[t];
  const int n_in = static_cast<int>(tile.end - tile.begin), n_out = static_cast<int>(tile.last - tile.first);
  const bool negative = part >= kPartnerTiles;
  const int begin = (negative ? part - kPartnerTiles : part) * kGemmTile;
  const int n_others = min((negative ? steps.n_shared : n_out) - begin, kGemmTile);
  int32_t* ids = steps.ids + t * steps.slots();

  if (part == 0) {
    for (int i = thread; i < steps.tile + kPartners; i += kGemmThreads) {
      const int j = i - steps.tile;
      ids[i] = j < 0 ? (i < n_in ? tokens.ids[tile.begin + i] : -1) : (j < n_out ? tokens.ids[tile.first + j] : -1);
    }
  }
  if (negative) {
    for (int j = thread; j < n_others; j += kGemmThreads) {
      ids[steps.tile + kPartners + begin + j] = steps.negatives[t * steps.n_shared + begin + j];
    }
  }
  double n_pairs = 0.0;
  if (thread < kGemmTile) {
    const int64_t token = tile.begin + thread;
    int low = 0, high = 0, itself = -1;
    float share = 0.0f;
    if (thread < n_in) {
      low = static_cast<int>(max(tokens.low[token], tile.first) - tile.first);
      high = static_cast<int>(min(tokens.high[token], tile.last) - tile.first);
      if (token >= tile.first && token < tile.last) itself = static_cast<int>(token - tile.first);
      share = fminf(1.0f,
                    static_cast<float>(p.most_pairs) / static_cast<float>(tokens.high[token] - tokens.low[token] - 1));
    }
    int count = 0;
    for (int w = 0; w < kWords; ++w) {
      uint32_t bits = bits_between(low - 32 * w, high - 32 * w);
      if (itself >= 32 * w && itself < 32 * w + 32) bits &= ~(1u << (itself - 32 * w));
      reached[thread * kWords + w] = bits;
      count += __popc(bits);
    }
    n_pairs = count;
    shares[thread] = share;
    weights[thread] = share * static_cast<float>(int64_t{p.n_negatives} * count) / static_cast<float>(p.n_shared);
    in_ids[thread] = thread < n_in ? tokens.ids[token] : -1;
    int32_t id = -1;
    if (thread < n_others) {
      id = negative ? steps.negatives[t * steps.n_shared + begin + thread] : tokens.ids[tile.first + begin + thread];
    }
    other_ids[thread] = id;
  }
  for (int j = thread; negative && j < kPartners; j += kGemmThreads) {
    partner_ids[j] = j < n_out ? tokens.ids[tile.first + j] : -2;
  }
  n_pairs = Block::sum(n_pairs, scratch);
  if (part == 0 && thread == 0) steps.pairs[t] = n_pairs;
  if (n_others <= 0) {
    if (thread == 0) steps.losses[t * steps.parts + part] = 0.0;
    return;
  }
  for (int at = thread; negative && at < kGemmTile * kWords; at += kGemmThreads) {
    const int32_t id = other_ids[at / kWords];
    uint32_t bits = 0;
    for (int j = 0; j < 32; ++j) {
      const int32_t partner = partner_ids[at % kWords * 32 + j];
      bits |= partner == id ? 1u << j : 0u;
    }
    equal[at] = bits;
  }

  float sum[8][4] = {};
  gemm_tile(sum, room + (2 * kKept - 2 * kGemmPanel), GatheredRows<Shared<int32_t>>{p.vectors.data, in_ids, d}, 0, n_in,
            GatheredRows<Shared<int32_t>>{p.contexts.data, other_ids, d}, 0, n_others, 0, d);
  __syncthreads();  // the panels have been read, and the masks are there
  const double progress = static_cast<double>(tile.begin) / static_cast<double>(tokens.n);
  const auto rate = static_cast<float>(p.learning_rate + (p.last_learning_rate - p.learning_rate) * progress);
  const GemmPlace place;
  double loss = 0.0;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int row = place.row + i;
    const float amount = negative ? weights[row] : shares[row], factor = (negative ? -rate : rate) * amount;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int col = place.col + j;
      bool counts = col < n_others && amount > 0.0f;
      if (counts && negative) {
        uint32_t hits = 0;
        for (int w = 0; w < kWords; ++w) {
          const uint32_t own = reached[row * kWords + w], same = equal[col * kWords + w];
          hits |= own & same;
        }
        counts = hits == 0;
      } else if (counts) {
        const uint32_t word = reached[row * kWords + (begin + col) / 32];
        counts = (word >> ((begin + col) % 32) & 1u) != 0;
      }
      float coefficient = 0.0f;
      if (counts) {  // -log sigmoid(s) of a partner, -log sigmoid(-s) of a negative
        const float s = negative ? sum[i][j] : -sum[i][j];
        loss += static_cast<double>(amount) * softplus(s);
        coefficient = factor * Sigmoids(s).up;
      }
      kept_in[col * kGemmStride + row] = coefficient;
      kept_out[row * kGemmStride + col] = coefficient;
    }
  }
  loss = Block::sum(loss, scratch);
  if (thread == 0) steps.losses[t * steps.parts + part] = loss;

  const int slot = negative ? kPartners + begin : begin;
  for (int64_t first = 0; first < d; first += kGemmTile) {
    float step[8][4] = {};
    gemm_kept(step, kept_in, panels, GatheredColumns<Shared<int32_t>>{p.contexts.data, other_ids, d}, first, d, 0,
              n_others);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (place.row + i < n_in && first + place.col + j < d) {
          steps.token(t, part, place.row + i)[first + place.col + j] = step[i][j];
        }
      }
    }
    float back[8][4] = {};
    gemm_kept(back, kept_out, panels, GatheredColumns<Shared<int32_t>>{p.vectors.data, in_ids, d}, first, d, 0, n_in);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (place.row + i < n_others && first + place.col + j < d) {
          steps.other(t, slot + place.row + i)[first + place.col + j] = back[i][j];
        }
      }
    }
  }
}

// A row moves by one entry; by one warp.
__device__ __forceinline__ void add_entry(const RoundSteps& steps, const SkipgramProblem& p, int64_t at, int lane) {
  const int32_t id = steps.ids[at];
  if (p.moves != nullptr && p.moves[id] == 0) return;
  const auto width = static_cast<uint32_t>(steps.slots());
  const int64_t t = static_cast<uint32_t>(at) / width, d = steps.d;
  const int slot = static_cast<int>(static_cast<uint32_t>(at) % width) - steps.tile;
  if (slot >= 0) {
    const float* from = steps.other(t, slot);
    float* row = p.contexts.row(id);
    for (int64_t c = lane; c < d; c += kWarpSize) row[c] += from[c];
    return;
  }
  const int64_t n_out = steps.tiles[t].last - steps.tiles[t].first;
  const int skipped = n_out <= kGemmTile ? 1 : 0;  // parts of partners that there are not
  float* row = p.vectors.row(id);
  for (int64_t c = lane; c < d; c += kWarpSize) {
    float step = steps.token(t, 0, slot + steps.tile)[c];
    for (int part = 1 + skipped; part < steps.parts; ++part) step += steps.token(t, part, slot + steps.tile)[c];
    row[c] += step;
  }
}

// The tables' rows move by the steps of a round. Warp `share` of all has the ids whose hash falls to it.
__global__ void __launch_bounds__(kMergeThreads) skipgram_merge_kernel(RoundSteps steps, SkipgramProblem p) {
  const int lane = Warp::lane();
  const auto n_shares = static_cast<int32_t>(gridDim.x * kMergeWarps);
  const auto share = static_cast<int32_t>(blockIdx.x * kMergeWarps + threadIdx.x / kWarpSize);
  const int64_t n = steps.n * steps.slots();
  for (int64_t base = 0; base < n; base += kIdsAhead * kWarpSize) {
    uint32_t own = 0;  // bit u: entry base + 32 u + lane is this warp's
#pragma unroll
    for (int u = 0; u < kIdsAhead; ++u) {
      const int64_t at = base + u * kWarpSize + lane;
      const int32_t id = at < n ? steps.ids[at] : -1;
      const bool hit = id >= 0 && to_range(static_cast<uint32_t>(id) * 2654435761u, n_shares) == share;
      own |= hit ? 1u << u : 0u;
    }
#pragma unroll 1
    for (int u = 0; u < kIdsAhead; ++u) {
      unsigned rest = __ballot_sync(kFullMask, (own >> u & 1u) != 0);
#pragma unroll 1
      for (; rest != 0; rest &= rest - 1) {
        add_entry(steps, p, base + u * kWarpSize + __ffs(static_cast<int>(rest)) - 1, lane);
      }
    }
  }
}

}  // namespace

template <>
SkipgramTotals skipgram_epoch<Cuda>(const SkipgramProblem& p, int) {
  const Stream stream = current_stream();
  const SkipgramPlan plan(p, stream);
  const int64_t n_tiles = plan.n_tiles(), d = p.vectors.d;
  if (n_tiles == 0) return {};
  RoundSteps steps{};
  steps.tile = static_cast<int>(p.tile);
  steps.n_shared = p.n_shared;
  steps.parts = kPartnerTiles + static_cast<int>(blocks_for(p.n_shared, kGemmTile));
  steps.d = d;
  const int64_t per_round = std::min(p.n_tiles, n_tiles), slots = p.tile + kPartners + p.n_shared;
  if (per_round * slots >= int64_t{1} << 31) {
    throw ShapeError("tokens of a round", per_round * p.tile, ((int64_t{1} << 31) - 1) / slots * p.tile);
  }
  // Negatives of whole rounds.
  const int64_t at_once = std::max<int64_t>(1, kDraws / (p.n_shared * per_round)) * per_round;
  DeviceBuffer<int32_t> ids(per_round * slots, stream), negatives(std::min(at_once, n_tiles) * p.n_shared, stream);
  DeviceBuffer<float> in(per_round * steps.parts * p.tile * d, stream);
  DeviceBuffer<float> out(per_round * (kPartners + p.n_shared) * d, stream);
  DeviceBuffer<double> losses(n_tiles * steps.parts, stream), pairs(n_tiles, stream);
  steps.ids = ids.data();
  steps.in = in.data();
  steps.out = out.data();
  // A warp for every 16 steps, where there are so many.
  const int64_t most = std::max<int64_t>(1, per_round * slots / (16 * kMergeWarps));
  const auto merge_blocks = static_cast<unsigned>(std::min<int64_t>(n_multiprocessors(), most));
  for (int64_t first = 0; first < n_tiles; first += per_round) {
    if (first % at_once == 0) {
      negatives_draw<Cuda>(negatives.data(), std::min(at_once, n_tiles - first) * p.n_shared, p.cdf, p.vectors.n,
                           p.seed, p.epoch, static_cast<uint64_t>(first * p.n_shared), 1);
    }
    steps.tiles = plan.tiles() + first;
    steps.negatives = negatives.data() + first % at_once * p.n_shared;
    steps.losses = losses.data() + first * steps.parts;
    steps.pairs = pairs.data() + first;
    steps.n = std::min(per_round, n_tiles - first);
    launch(skipgram_steps_kernel, dim3(static_cast<unsigned>(steps.n), static_cast<unsigned>(steps.parts)),
           dim3(kGemmThreads), 0, stream, steps, p, plan.tokens());
    launch(skipgram_merge_kernel, dim3(merge_blocks), dim3(kMergeThreads), 0, stream, steps, p);
  }
  SkipgramTotals totals;
  totals.loss = device_sum(losses.data(), n_tiles * steps.parts, stream);
  totals.n_pairs = static_cast<int64_t>(device_sum(pairs.data(), n_tiles, stream));
  return totals;
}

}  // namespace recsys_fast
