// Losses over candidates that all rows share; the softmax over all items is one of them. A chunk of the rows that have
// a target at a time, with its scores S (rows, items) in memory, 8 million of them, which stay in L2:
//   S = h E^T + b - log q                     products of tiles
//   S = scale weight dloss / dS, and the loss  a block per row: one reading with a running maximum, one to write
//   dh = S E, dE += S^T h, db += 1^T S         products of tiles
// No matrix of all rows x items exists: beyond 131,072 items a chunk is 64 rows, whose scores are as large as a table
// of width 64. Both sums are cut into slots by a rule of the sizes, so that small results fill the device too, and the
// slots added in order.
#include <algorithm>

#include "cuda/prefix_sum.h"
#include "cuda/score_row.h"
#include "cuda/sum.h"
#include "cuda/tile_product.h"

namespace recsys_fast {
namespace {

constexpr int kTile = 64, kThreads = kTileThreads<kTile>;
constexpr int64_t kScores = int64_t{1} << 23;  // of a chunk, where 64 rows are not more
constexpr int64_t kBlocks = 512;               // that products are cut into slots for
constexpr int64_t kDepth = 128;                // of a slot at least

// A chunk: rows (n) are where its rows are in h, scores (n, stride) the rest.
struct Chunk {
  const int32_t* rows;
  int64_t n, stride;
  float* scores;
  __device__ float* row(int64_t r) const { return scores + r * stride; }
};

// What the candidates are left out and corrected by; each may be null.
struct Candidates {
  const int32_t* ids;
  const float* log_q;
};

// The targets of the rows: one each, -1 for none, or several.
struct Targets {
  const int32_t* ids;
  const int64_t* ptr;
  int64_t n;
  __device__ bool any(int64_t t) const { return t < n && (ptr != nullptr ? ptr[t] < ptr[t + 1] : ids[t] >= 0); }
};

// flags (n + 1) = 1 where a row has a target.
__global__ void wanted_kernel(int64_t* flags, Targets targets) {
  const int64_t t = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (t <= targets.n) flags[t] = targets.any(t) ? 1 : 0;
}

// rows[places[t]] = t for those.
__global__ void wanted_rows_kernel(int32_t* rows, const int64_t* places, Targets targets) {
  const int64_t t = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (targets.any(t)) rows[places[t]] = static_cast<int32_t>(t);
}

// Scores of a chunk, overwritten. Block (tile of items, tile of rows).
__global__ void __launch_bounds__(kThreads) scores_kernel(ScoreProblem p, Chunk chunk, Candidates candidates) {
  RF_SHARED(float, panels, kTilePanels<kTile>);
  RF_SHARED(int32_t, rows, kTile);
  const int64_t first_item = int64_t{blockIdx.x} * kTile, first_row = int64_t{blockIdx.y} * kTile, d = p.h.d;
  const int64_t n = p.rows.n;
  if (threadIdx.x < kTile) {
    rows[threadIdx.x] = first_row + threadIdx.x < chunk.n ? chunk.rows[first_row + threadIdx.x] : -1;
  }
  __syncthreads();
  float sum[4][4] = {}, along = 0.0f;
  tile_product<kTile, true>(
      sum, along, panels, d, false,
      [&](int i, int64_t k) {
        const int32_t row = rows[i];
        return row >= 0 ? p.h.row(row)[k] : 0.0f;
      },
      [&](int j, int64_t k) { return first_item + j < n ? p.rows.row(first_item + j)[k] : 0.0f; },
      [](int64_t) { return 0.0f; });
  const TilePlace<kTile> place;
  const int64_t item = first_item + place.col;
  if (item >= n) return;
  float constant[4] = {};
#pragma unroll
  for (int j = 0; j < 4; ++j) {
    if (item + j >= n) break;
    if (p.bias != nullptr) constant[j] = p.bias[item + j];
    if (candidates.log_q != nullptr) constant[j] -= candidates.log_q[item + j];
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int64_t r = first_row + place.row + i;
    if (r >= chunk.n) break;
    float s[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) s[j] = sum[i][j] + constant[j];
    if (candidates.ids != nullptr) {  // the same item as the target elsewhere is no negative
      const int32_t target = p.targets[chunk.rows[r]], id = candidates.ids[target];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (item + j < n && item + j != target && candidates.ids[item + j] == id) s[j] = -INFINITY;
      }
    }
    *reinterpret_cast<float4*>(chunk.row(r) + item) = make_float4(s[0], s[1], s[2], s[3]);  // the stride is of fours
  }
}

// Scores become derivatives; losses (chunk.n) = weight times the loss. A block per row.
__global__ void __launch_bounds__(kThreads)
    score_rows_kernel(double* losses, ScoreProblem p, Chunk chunk, ScoreLossOptions options) {
  RF_SHARED(float, scratch, kWarpSize);
  const int64_t r = blockIdx.x;
  const int32_t t = chunk.rows[r];
  const float weight = p.weights != nullptr ? p.weights[t] : 1.0f;
  const BlockRow team{scratch};
  const ScoreRow<BlockRow> row(team, chunk.row(r), p.rows.n, p.targets[t], weight * p.scale);
  const float loss = row.loss(options);
  if (threadIdx.x == 0) losses[r] = static_cast<double>(weight) * loss;
}

// The same with the targets of multinomial_loss, whose weights are in the loss.
__global__ void __launch_bounds__(kThreads) multinomial_rows_kernel(double* losses, ScoreProblem p, Chunk chunk) {
  RF_SHARED(float, scratch, kWarpSize);
  const int64_t r = blockIdx.x, t = chunk.rows[r], first = p.target_ptr[t];
  const BlockRow team{scratch};
  const float loss =
      multinomial_row(team, chunk.row(r), p.rows.n, p.targets + first,
                      p.weights != nullptr ? p.weights + first : nullptr, p.target_ptr[t + 1] - first, p.scale);
  if (threadIdx.x == 0) losses[r] = loss;
}

// parts[slot] (chunk.n, d) = S E over the items [slot * depth, (slot + 1) * depth); overwrites. Block (tile of rows,
// tile of columns, slot).
__global__ void __launch_bounds__(kThreads) score_dh_kernel(float* parts, ScoreProblem p, Chunk chunk, int64_t depth) {
  RF_SHARED(float, panels, kTilePanels<kTile>);
  const int64_t first_row = int64_t{blockIdx.x} * kTile, first_col = int64_t{blockIdx.y} * kTile, d = p.h.d;
  const int64_t first_item = blockIdx.z * depth, n_items = max(int64_t{0}, min(depth, p.rows.n - first_item));
  float sum[4][4] = {}, along = 0.0f;
  tile_product<kTile, false, true>(
      sum, along, panels, n_items, false,
      [&](int i, int64_t k) { return first_row + i < chunk.n ? chunk.row(first_row + i)[first_item + k] : 0.0f; },
      [&](int j, int64_t k) { return first_col + j < d ? p.rows.row(first_item + k)[first_col + j] : 0.0f; },
      [](int64_t) { return 0.0f; });
  const TilePlace<kTile> place;
  for (int i = 0; i < 4; ++i) {
    const int64_t r = first_row + place.row + i, col = first_col + place.col;
    float* out = parts + (blockIdx.z * chunk.n + r) * d;
    for (int j = 0; j < 4; ++j) {
      if (r < chunk.n && col + j < d) out[col + j] = sum[i][j];
    }
  }
}

// dh[rows[r]] = sum of the slots' parts, in order; overwrites.
__global__ void score_dh_sum_kernel(float* dh, const float* parts, const int32_t* rows, int64_t n, int64_t d,
                                    int64_t n_slots) {
  const int64_t e = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (e >= n * d) return;
  float total = 0.0f;
  for (int64_t slot = 0; slot < n_slots; ++slot) total += parts[slot * n * d + e];
  dh[rows[e / d] * d + e % d] = total;
}

// out[slot] (n, d) = S^T h over the chunk's rows [slot * depth, (slot + 1) * depth), or += with `add`. Block (tile of
// items, tile of columns, slot).
__global__ void __launch_bounds__(kThreads)
    score_drows_kernel(float* out, ScoreProblem p, Chunk chunk, int64_t depth, bool add) {
  RF_SHARED(float, panels, kTilePanels<kTile>);
  const int64_t first_item = int64_t{blockIdx.x} * kTile, first_col = int64_t{blockIdx.y} * kTile, d = p.h.d;
  const int64_t n = p.rows.n, first_row = blockIdx.z * depth;
  const int64_t n_rows = max(int64_t{0}, min(depth, chunk.n - first_row));
  float sum[4][4] = {}, along = 0.0f;
  tile_product<kTile, false>(
      sum, along, panels, n_rows, false,
      [&](int i, int64_t k) { return first_item + i < n ? chunk.row(first_row + k)[first_item + i] : 0.0f; },
      [&](int j, int64_t k) { return first_col + j < d ? p.h.row(chunk.rows[first_row + k])[first_col + j] : 0.0f; },
      [](int64_t) { return 0.0f; });
  const TilePlace<kTile> place;
  for (int i = 0; i < 4; ++i) {
    const int64_t item = first_item + place.row + i, col = first_col + place.col;
    float* to = out + (blockIdx.z * n + item) * d;
    for (int j = 0; j < 4; ++j) {
      if (item < n && col + j < d) to[col + j] = add ? to[col + j] + sum[i][j] : sum[i][j];
    }
  }
}

// out (n) = sum of the slots' parts, in order, or += with `add`.
__global__ void score_slots_kernel(float* out, const float* parts, int64_t n, int64_t n_slots, bool add) {
  const int64_t e = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (e >= n) return;
  float total = add ? out[e] : 0.0f;
  for (int64_t slot = 0; slot < n_slots; ++slot) total += parts[slot * n + e];
  out[e] = total;
}

// dbias (n) = column sums of S, or += with `add`. A block per 32 items, warp w with the rows w, w + 8, ...
__global__ void __launch_bounds__(kThreads) score_dbias_kernel(float* dbias, Chunk chunk, int64_t n, bool add) {
  RF_SHARED(float, parts, kThreads);
  const int64_t item = int64_t{blockIdx.x} * kWarpSize + Warp::lane();
  float sum = 0.0f;
  for (int64_t r = threadIdx.x / kWarpSize; r < chunk.n; r += kThreads / kWarpSize) {
    if (item < n) sum += chunk.row(r)[item];
  }
  parts[threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.x >= kWarpSize || item >= n) return;
  float total = add ? dbias[item] : 0.0f;
  for (int w = 0; w < kThreads / kWarpSize; ++w) total += parts[w * kWarpSize + static_cast<int>(threadIdx.x)];
  dbias[item] = total;
}

// How a product's depth is cut so that its tiles fill the device.
struct Slots {
  int64_t n, depth;
  Slots(int64_t n_tiles, int64_t whole)
      : n(std::clamp<int64_t>(kBlocks / n_tiles, 1, std::max<int64_t>(1, whole / kDepth))),
        depth((whole + n - 1) / n) {}
};

class SharedScores {
 public:
  SharedScores(const ScoreProblem& problem, const Candidates& candidates, const ScoreLossOptions& options)
      : p_(problem), candidates_(candidates), options_(options), stream_(current_stream()) {}

  double run() {
    fill_zero(p_.dh, p_.h.n * p_.h.d, stream_);
    const int64_t n_rows = wanted();
    if (n_rows == 0) {
      fill_zero(p_.drows, p_.rows.n * p_.rows.d, stream_);
      if (p_.dbias != nullptr) fill_zero(p_.dbias, p_.rows.n, stream_);
      return 0.0;
    }
    const int64_t stride = (p_.rows.n + 3) / 4 * 4, whole = blocks_for(n_rows, kTile) * int64_t{kTile};
    const int64_t step = std::clamp<int64_t>(kScores / stride / kTile * kTile, kTile, whole);
    DeviceBuffer<float> scores(std::min(step, n_rows) * stride, stream_);
    DeviceBuffer<double> losses(n_rows, stream_);
    for (int64_t first = 0; first < n_rows; first += step) {
      const Chunk chunk{rows_.data() + first, std::min(step, n_rows - first), stride, scores.data()};
      launch(scores_kernel, dim3(blocks_for(p_.rows.n, kTile), blocks_for(chunk.n, kTile)), dim3(kThreads), 0, stream_,
             p_, chunk, candidates_);
      // few candidates: a smaller block has less to add up
      const dim3 grid(static_cast<unsigned>(chunk.n)), block(p_.rows.n > 512 ? kThreads : 64);
      if (p_.target_ptr != nullptr) {
        launch(multinomial_rows_kernel, grid, block, 0, stream_, losses.data() + first, p_, chunk);
      } else {
        launch(score_rows_kernel, grid, block, 0, stream_, losses.data() + first, p_, chunk, options_);
      }
      gradients(chunk, first > 0);
    }
    return device_sum(losses.data(), n_rows, stream_);
  }

 private:
  // The rows that have a target, ascending, into rows_; returns how many.
  int64_t wanted() {
    const int64_t n = p_.h.n;
    DeviceBuffer<int64_t> places(n + 1, stream_);
    rows_ = DeviceBuffer<int32_t>(n, stream_);
    const dim3 grid(blocks_for(n + 1, 256)), block(256);
    const Targets targets{p_.targets, p_.target_ptr, n};
    launch(wanted_kernel, grid, block, 0, stream_, places.data(), targets);
    prefix_sum(places.data(), n + 1, stream_);
    launch(wanted_rows_kernel, grid, block, 0, stream_, rows_.data(), places.data(), targets);
    return read_element(places.data() + n, stream_);
  }

  void gradients(const Chunk& chunk, bool add) {
    const int64_t n = p_.rows.n, d = p_.h.d;
    const unsigned row_tiles = blocks_for(chunk.n, kTile), item_tiles = blocks_for(n, kTile),
                   columns = blocks_for(d, kTile);
    const Slots of_items(int64_t{row_tiles} * columns, n), of_rows(int64_t{item_tiles} * columns, chunk.n);
    DeviceBuffer<float> dh_parts(of_items.n * chunk.n * d, stream_);
    launch(score_dh_kernel, dim3(row_tiles, columns, static_cast<unsigned>(of_items.n)), dim3(kThreads), 0, stream_,
           dh_parts.data(), p_, chunk, of_items.depth);
    launch(score_dh_sum_kernel, dim3(blocks_for(chunk.n * d, 256)), dim3(256), 0, stream_, p_.dh, dh_parts.data(),
           chunk.rows, chunk.n, d, of_items.n);
    const dim3 grid(item_tiles, columns, static_cast<unsigned>(of_rows.n));
    DeviceBuffer<float> parts(of_rows.n > 1 ? of_rows.n * n * d : 0, stream_);
    float* out = of_rows.n > 1 ? parts.data() : p_.drows;
    launch(score_drows_kernel, grid, dim3(kThreads), 0, stream_, out, p_, chunk, of_rows.depth, add && of_rows.n == 1);
    if (of_rows.n > 1) {
      launch(score_slots_kernel, dim3(blocks_for(n * d, 256)), dim3(256), 0, stream_, p_.drows, parts.data(), n * d,
             of_rows.n, add);
    }
    if (p_.dbias == nullptr) return;
    launch(score_dbias_kernel, dim3(blocks_for(n, kWarpSize)), dim3(kThreads), 0, stream_, p_.dbias, chunk, n, add);
  }

  const ScoreProblem& p_;
  Candidates candidates_;
  ScoreLossOptions options_;
  Stream stream_;
  DeviceBuffer<int32_t> rows_;
};

}  // namespace

bool losses_have_bf16() { return false; }

template <>
double softmax_loss<Cuda>(const ScoreProblem& problem, int) {
  return SharedScores(problem, {nullptr, nullptr}, {ScoreLoss::kSoftmax, 1.0f, 0.0f}).run();
}

template <>
double multinomial_loss<Cuda>(const ScoreProblem& problem, int n_threads) {
  return softmax_loss<Cuda>(problem, n_threads);
}

template <>
double shared_loss<Cuda>(const ScoreProblem& problem, const int32_t* ids, const float* log_q,
                         const ScoreLossOptions& options, int) {
  return SharedScores(problem, {ids, log_q}, options).run();
}

}  // namespace recsys_fast
