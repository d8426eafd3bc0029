// Losses over candidates that all rows share; the softmax over all items is one of them. A chunk of the rows that have
// a target at a time, with its scores S (rows, items) in memory, 8 million of them, which stay in L2:
//   S = h E^T + b - log q                     products of tiles
//   S = scale weight dloss / dS, and the loss  a block per row: one reading with a running maximum, one to write
//   dh = S E, dE += S^T h, db += 1^T S         products of tiles
// The products are float32, or bfloat16 on tensor cores, whose operands are rounded on their way into a tile: S, db and
// what is done to a row are float32 always.
// No matrix of all rows x items exists: beyond 131,072 items a chunk is 64 rows, whose scores are as large as a table
// of width 64. Both sums are cut into slots by a rule of the sizes, so that small results fill the device too, and the
// slots added in order.
#include <algorithm>

#include "cuda/gathered_rows.h"
#include "cuda/gemm_bf16.h"
#include "cuda/prefix_sum.h"
#include "cuda/score_row.h"
#include "cuda/sum.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256;                  // of kernels without a product
constexpr int64_t kScores = int64_t{1} << 23;  // of a chunk, where 64 rows are not more
constexpr int64_t kBlocks = 512;               // that products are cut into slots for
constexpr int64_t kLeast = 128;                // steps of a slot at least
constexpr int64_t kPanel = 32;                 // they are whole panels of every product

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

// Scores of a chunk, overwritten.
struct ScoreOut {
  Chunk chunk;
  const float* bias;
  Candidates candidates;
  const int32_t* targets;
  __device__ void operator()(int64_t r, int64_t item, float value) const {
    float constant = bias != nullptr ? bias[item] : 0.0f;
    if (candidates.log_q != nullptr) constant -= candidates.log_q[item];
    value += constant;
    if (candidates.ids != nullptr) {  // the same item as the target elsewhere is no negative
      const int32_t target = targets[chunk.rows[r]];
      if (item != target && candidates.ids[item] == candidates.ids[target]) value = -INFINITY;
    }
    chunk.row(r)[item] = value;
  }
};

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

// out[slot] (m, n) = sum of left(i, k) right(j, k) over the slot's steps k, [slot * depth, (slot + 1) * depth) of
// `whole`; or += with `add`. Block (tile of i, tile of j, slot).
template <class Product, class Left, class Right>
__global__ void __launch_bounds__(kGemmThreads, 4)
    score_gradient_kernel(float* out, Left left, Right right, int64_t m, int64_t n, int64_t whole, int64_t depth,
                          bool add) {
  RF_SHARED(float, panels, kGemmPanelsOf<Product>);
  const int64_t row = int64_t{blockIdx.x} * kGemmTile, col = int64_t{blockIdx.y} * kGemmTile, slot = blockIdx.z;
  float sum[8][4] = {};
  gemm_tile<Product>(sum, panels, left, row, m, right, col, n, slot * depth, min(whole, (slot + 1) * depth));
  float* to = out + slot * m * n;
  gemm_write<Product>(sum, panels, row, m, col, n,
                      [&](int64_t i, int64_t j, float value) { to[i * n + j] = add ? to[i * n + j] + value : value; });
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
      : n(std::clamp<int64_t>(kBlocks / n_tiles, 1, std::max<int64_t>(1, whole / kLeast))),
        depth(((whole + n - 1) / n + kPanel - 1) / kPanel * kPanel) {}
};

template <class Product>
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
    const int64_t stride = (p_.rows.n + 3) / 4 * 4, whole = blocks_for(n_rows, kGemmTile) * int64_t{kGemmTile};
    const int64_t step = std::clamp<int64_t>(kScores / stride / kGemmTile * kGemmTile, kGemmTile, whole);
    DeviceBuffer<float> scores(std::min(step, n_rows) * stride, stream_);
    DeviceBuffer<double> losses(n_rows, stream_);
    for (int64_t first = 0; first < n_rows; first += step) {
      const Chunk chunk{rows_.data() + first, std::min(step, n_rows - first), stride, scores.data()};
      gemm<Product>(GatheredRows<>{p_.h.data, chunk.rows, p_.h.d}, AlongDepth{p_.rows.data, p_.h.d},
                    ScoreOut{chunk, p_.bias, candidates_, p_.targets}, chunk.n, p_.rows.n, p_.h.d, stream_);
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
    const int64_t n = p_.rows.n, d = p_.h.d, columns = blocks_for(d, kGemmTile);
    const Slots of_items(blocks_for(chunk.n, kGemmTile) * columns, n),
        of_rows(blocks_for(n, kGemmTile) * columns, chunk.n);
    DeviceBuffer<float> dh_parts(of_items.n * chunk.n * d, stream_);
    multiply(dh_parts.data(), AlongDepth{chunk.scores, chunk.stride}, AcrossDepth{p_.rows.data, d}, chunk.n, n,
             of_items, false);
    launch(score_dh_sum_kernel, dim3(blocks_for(chunk.n * d, 256)), dim3(256), 0, stream_, p_.dh, dh_parts.data(),
           chunk.rows, chunk.n, d, of_items.n);
    DeviceBuffer<float> parts(of_rows.n > 1 ? of_rows.n * n * d : 0, stream_);
    multiply(of_rows.n > 1 ? parts.data() : p_.drows, AcrossDepth{chunk.scores, chunk.stride},
             GatheredColumns<>{p_.h.data, chunk.rows, d}, n, chunk.n, of_rows, add && of_rows.n == 1);
    if (of_rows.n > 1) {
      launch(score_slots_kernel, dim3(blocks_for(n * d, 256)), dim3(256), 0, stream_, p_.drows, parts.data(), n * d,
             of_rows.n, add);
    }
    if (p_.dbias == nullptr) return;
    launch(score_dbias_kernel, dim3(blocks_for(n, kWarpSize)), dim3(kThreads), 0, stream_, p_.dbias, chunk, n, add);
  }

  // out[slot] (m, d) = left right over the slots of `whole` steps.
  template <class Left, class Right>
  void multiply(float* out, const Left& left, const Right& right, int64_t m, int64_t whole, const Slots& slots,
                bool add) {
    const dim3 grid(blocks_for(m, kGemmTile), blocks_for(p_.h.d, kGemmTile), static_cast<unsigned>(slots.n));
    launch(score_gradient_kernel<Product, Left, Right>, grid, dim3(kGemmThreads), 0, stream_, out, left, right, m,
           p_.h.d, whole, slots.depth, add);
  }

  const ScoreProblem& p_;
  Candidates candidates_;
  ScoreLossOptions options_;
  Stream stream_;
  DeviceBuffer<int32_t> rows_;
};

double shared_scores(const ScoreProblem& problem, const Candidates& candidates, const ScoreLossOptions& options) {
  if (problem.bf16) return SharedScores<Bf16Product>(problem, candidates, options).run();
  return SharedScores<FloatProduct>(problem, candidates, options).run();
}

}  // namespace

bool losses_have_bf16() { return true; }

template <>
double softmax_loss<Cuda>(const ScoreProblem& problem, int) {
  return shared_scores(problem, {nullptr, nullptr}, {ScoreLoss::kSoftmax, 1.0f, 0.0f});
}

template <>
double multinomial_loss<Cuda>(const ScoreProblem& problem, int n_threads) {
  return softmax_loss<Cuda>(problem, n_threads);
}

template <>
double shared_loss<Cuda>(const ScoreProblem& problem, const int32_t* ids, const float* log_q,
                         const ScoreLossOptions& options, int) {
  return shared_scores(problem, {ids, log_q}, options);
}

}  // namespace recsys_fast
