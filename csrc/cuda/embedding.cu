// A warp takes a row, whole lines of 128 bytes at a time; the floor is one read and one write of the rows. Sums over
// positions: a block has one place and a run of the sequences, whose rows at that place it masks, scales and sums in
// one reading; the runs' sums are added in order, so that the tree depends on row_ptr alone.
#include "ops/embedding.h"

#include <algorithm>

#include "core/dropout_hash.h"
#include "cuda/reduce.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarpSize;
constexpr int64_t kRunSequences = 32;  // of a run at least: eight for each warp
constexpr int64_t kMostRuns = 16;

// The sequence of row t: the last that begins at or before it and is not empty.
__device__ __forceinline__ int64_t sequence_of(const Places& places, int64_t t) {
  int64_t low = 0, high = places.n_sequences;  // row_ptr[low] <= t < row_ptr[high]
  while (high - low > 1) {
    const int64_t middle = (low + high) / 2;
    (places.row_ptr[middle] <= t ? low : high) = middle;
  }
  return low;
}

__device__ __forceinline__ float mask_of(const Dropout& drop, int64_t row, int64_t column, int64_t d) {
  return drop.active() ? dropout_at(drop, row, column, dropout_groups(d)) : 1.0f;
}

// out[t] = D(scale table[ids[t]] + positions[place of t]); overwrites. A warp per row.
__global__ void __launch_bounds__(kThreads)
    embedding_forward_kernel(Rows<float> out, Rows<const float> table, Rows<const float> positions, const int32_t* ids,
                             Places places, float scale, Dropout drop) {
  const int64_t t = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize, d = out.d;
  if (t >= out.n) return;
  const int32_t id = ids[t];
  const float *row = id >= 0 ? table.row(id) : nullptr, *position = nullptr;
  if (positions.n != 0) {
    const int64_t s = sequence_of(places, t);
    position = positions.row(places.from_end ? positions.n - (places.row_ptr[s + 1] - t) : t - places.row_ptr[s]);
  }
  for (int64_t c = Warp::lane(); c < d; c += kWarpSize) {
    float x = row != nullptr ? row[c] * scale : 0.0f;
    if (position != nullptr) x += position[c];
    out.row(t)[c] = x * mask_of(drop, t, c, d);
  }
}

// x[t] = (x[t] mask) scale, in place. A warp per row.
__global__ void __launch_bounds__(kThreads) masked_rows_kernel(Rows<float> x, float scale, Dropout drop) {
  const int64_t t = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize;
  if (t >= x.n) return;
  for (int64_t c = Warp::lane(); c < x.d; c += kWarpSize) {
    x.row(t)[c] = x.row(t)[c] * mask_of(drop, t, c, x.d) * scale;
  }
}

// dout[t] *= mask, sum over the run's sequences at place p, dout[t] *= scale. sums (n_runs, n_positions, d),
// overwritten. Block (p, run): warp w has the sequences w, w + kWarps, ... of the run.
__global__ void __launch_bounds__(kThreads)
    embedding_backward_kernel(float* sums, Rows<float> dout, int64_t n_positions, Places places, int64_t run_sequences,
                              float scale, Dropout drop) {
  RF_SHARED(float, parts, kThreads);
  const int64_t d = dout.d, p = blockIdx.x, first = blockIdx.y * run_sequences;
  const int64_t last = min(places.n_sequences, first + run_sequences);
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  for (int64_t from = 0; from < d; from += kWarpSize) {
    const int64_t c = from + Warp::lane();
    float sum = 0.0f;
    for (int64_t s = first + warp; s < last; s += kWarps) {
      const int64_t begin = places.row_ptr[s], end = places.row_ptr[s + 1];
      const int64_t t = places.from_end ? end - (n_positions - p) : begin + p;
      if (t < begin || t >= end || c >= d) continue;
      const float x = dout.row(t)[c] * mask_of(drop, t, c, d);
      sum += x;
      dout.row(t)[c] = x * scale;
    }
    parts[threadIdx.x] = sum;
    __syncthreads();
    if (warp == 0 && c < d) {
      for (int w = 1; w < kWarps; ++w) sum += parts[w * kWarpSize + Warp::lane()];
      sums[(blockIdx.y * n_positions + p) * d + c] = sum;
    }
    __syncthreads();
  }
}

// out (n) = sum of n_runs arrays, in order; overwrites.
__global__ void run_sums_kernel(float* out, const float* sums, int64_t n, int64_t n_runs) {
  const int64_t e = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (e >= n) return;
  float total = 0.0f;
  for (int64_t run = 0; run < n_runs; ++run) total += sums[run * n + e];
  out[e] = total;
}

void mask_rows(Rows<float> x, float scale, const Dropout& drop) {
  if (x.n * x.d == 0 || (!drop.active() && scale == 1.0f)) return;
  launch(masked_rows_kernel, dim3(blocks_for(x.n, kWarps)), dim3(kThreads), 0, current_stream(), x, scale, drop);
}

}  // namespace

template <>
void embedding_forward<Cuda>(Rows<float> out, Rows<const float> table, Rows<const float> positions, const int32_t* ids,
                             Places places, float scale, DropoutMask dropout, int) {
  if (out.n * out.d == 0) return;
  launch(embedding_forward_kernel, dim3(blocks_for(out.n, kWarps)), dim3(kThreads), 0, current_stream(), out, table,
         positions, ids, places, scale, Dropout(dropout));
}

template <>
void embedding_backward<Cuda>(Rows<float> dout, Rows<float> dpositions, Places places, float scale, DropoutMask dropout,
                              int) {
  const Dropout drop(dropout);
  const Stream stream = current_stream();
  if (dpositions.n == 0 || dpositions.d == 0) return mask_rows(dout, scale, drop);
  const int64_t n = dpositions.n * dpositions.d;
  const int64_t n_runs = std::clamp<int64_t>(places.n_sequences / kRunSequences, 1, kMostRuns);
  const int64_t run = (places.n_sequences + n_runs - 1) / n_runs;
  DeviceBuffer<float> sums(n_runs > 1 ? n_runs * n : 0, stream);
  float* out = n_runs > 1 ? sums.data() : dpositions.data;
  launch(embedding_backward_kernel, dim3(static_cast<unsigned>(dpositions.n), static_cast<unsigned>(n_runs)),
         dim3(kThreads), 0, stream, out, dout, dpositions.n, places, run, scale, drop);
  if (n_runs == 1) return;
  launch(run_sums_kernel, dim3(blocks_for(n, 256)), dim3(256), 0, stream, dpositions.data, sums.data(), n, n_runs);
}

template <>
void dropout_apply<Cuda>(Rows<float> x, DropoutMask dropout, int) {
  mask_rows(x, 1.0f, Dropout(dropout));
}

}  // namespace recsys_fast
