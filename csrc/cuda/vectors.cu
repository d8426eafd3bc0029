// Each is one reading of its rows. A warp takes a row of vectors; of maxima a thread takes a column of a sequence, so
// that neighbours read neighbours.
#include "ops/vectors.h"

#include "cuda/reduce.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarpSize;

// The sum over c < d of a[c] b[c], in every lane.
__device__ __forceinline__ float warp_dot(const float* a, const float* b, int64_t d) {
  float sum = 0.0f;
  for (int64_t c = Warp::lane(); c < d; c += kWarpSize) sum += a[c] * b[c];
  return Warp::sum(sum);
}

__device__ __forceinline__ int64_t warp_row() { return int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize; }

// y and scale, overwritten.
__global__ void __launch_bounds__(kThreads) unit_rows_forward_kernel(Rows<float> y, float* scale, const float* x) {
  const int64_t t = warp_row();
  if (t >= y.n) return;
  const float* from = x + t * y.d;
  const float length = sqrtf(warp_dot(from, from, y.d)), factor = length > 0.0f ? 1.0f / length : 0.0f;
  for (int64_t c = Warp::lane(); c < y.d; c += kWarpSize) y.row(t)[c] = from[c] * factor;
  if (Warp::lane() == 0) scale[t] = factor;
}

__global__ void __launch_bounds__(kThreads)
    unit_rows_backward_kernel(Rows<float> dx, const float* dy, const float* y, const float* scale) {
  const int64_t t = warp_row();
  if (t >= dx.n) return;
  const float *given = dy + t * dx.d, *unit = y + t * dx.d;
  const float along = warp_dot(given, unit, dx.d);
  for (int64_t c = Warp::lane(); c < dx.d; c += kWarpSize) dx.row(t)[c] = (given[c] - unit[c] * along) * scale[t];
}

// y and places, overwritten; thread e has column e of all sequences behind each other.
__global__ void __launch_bounds__(kThreads)
    sequence_max_forward_kernel(Rows<float> y, int32_t* places, Packed<const float> x) {
  const int64_t e = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (e >= y.n * y.d) return;
  const int64_t s = e / y.d, c = e % y.d, begin = x.row_ptr[s], length = x.row_ptr[s + 1] - begin;
  const float* column = x.data + begin * x.d + c;
  float best = length > 0 ? column[0] : 0.0f;
  int32_t place = 0;
  for (int64_t t = 1; t < length; ++t) {
    const float value = column[t * x.d];
    if (value > best) {
      best = value;
      place = static_cast<int32_t>(t);
    }
  }
  y.data[e] = best;
  places[e] = place;
}

__global__ void __launch_bounds__(kThreads)
    sequence_max_backward_kernel(Packed<float> dx, const float* dy, const int32_t* places) {
  const int64_t e = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (e >= dx.n_sequences * dx.d) return;
  const int64_t s = e / dx.d, c = e % dx.d, begin = dx.row_ptr[s], length = dx.row_ptr[s + 1] - begin;
  float* column = dx.data + begin * dx.d + c;
  const float given = dy[e];
  const int64_t place = places[e];
  for (int64_t t = 0; t < length; ++t) column[t * dx.d] = t == place ? given : 0.0f;
}

// y and w, overwritten.
__global__ void __launch_bounds__(kThreads)
    mixture_forward_kernel(float* y, float* w, const float* v, const float* scores, const float* bias,
                           const uint8_t* present, Mixture size) {
  const int64_t t = warp_row(), k = size.k, d = size.d;
  if (t >= size.n) return;
  float* weights = w + t * k;
  const auto score = [&](int64_t m) { return scores[t * k + m] + (bias != nullptr ? bias[m] : 0.0f); };
  const auto there = [&](int64_t m) { return present == nullptr || present[t * k + m] != 0; };
  float largest = -INFINITY, total = 0.0f;
  for (int64_t m = Warp::lane(); m < k; m += kWarpSize) largest = there(m) ? fmaxf(largest, score(m)) : largest;
  largest = Warp::maximum(largest);
  for (int64_t m = Warp::lane(); m < k; m += kWarpSize) total += there(m) ? expf(score(m) - largest) : 0.0f;
  total = Warp::sum(total);
  for (int64_t m = Warp::lane(); m < k; m += kWarpSize) {
    weights[m] = there(m) ? expf(score(m) - largest) / total : 0.0f;
  }
  __syncwarp();  // each lane's weights are there for the others
  for (int64_t c = Warp::lane(); c < d; c += kWarpSize) {
    float sum = 0.0f;
    for (int64_t m = 0; m < k; ++m) {
      if (there(m)) sum += weights[m] * v[(t * k + m) * d + c];
    }
    y[t * d + c] = sum;
  }
}

// dv and dscores, overwritten.
__global__ void __launch_bounds__(kThreads)
    mixture_backward_kernel(float* dv, float* dscores, const float* dy, const float* v, const float* w, Mixture size) {
  const int64_t t = warp_row(), k = size.k, d = size.d;
  if (t >= size.n) return;
  const float *given = dy + t * d, *weights = w + t * k;
  float mean = 0.0f;
  for (int64_t m = 0; m < k; ++m) mean += weights[m] * warp_dot(given, v + (t * k + m) * d, d);
  for (int64_t m = 0; m < k; ++m) {
    const float slope = warp_dot(given, v + (t * k + m) * d, d);
    if (Warp::lane() == 0) dscores[t * k + m] = weights[m] * (slope - mean);
    for (int64_t c = Warp::lane(); c < d; c += kWarpSize) dv[(t * k + m) * d + c] = weights[m] * given[c];
  }
}

}  // namespace

template <>
void unit_rows_forward<Cuda>(Rows<float> y, float* scale, const float* x, int) {
  if (y.n == 0) return;
  launch(unit_rows_forward_kernel, dim3(blocks_for(y.n, kWarps)), dim3(kThreads), 0, current_stream(), y, scale, x);
}

template <>
void unit_rows_backward<Cuda>(Rows<float> dx, const float* dy, const float* y, const float* scale, int) {
  if (dx.n == 0) return;
  launch(unit_rows_backward_kernel, dim3(blocks_for(dx.n, kWarps)), dim3(kThreads), 0, current_stream(), dx, dy, y,
         scale);
}

template <>
void sequence_max_forward<Cuda>(Rows<float> y, int32_t* places, Packed<const float> x, int) {
  if (y.n * y.d == 0) return;
  launch(sequence_max_forward_kernel, dim3(blocks_for(y.n * y.d, kThreads)), dim3(kThreads), 0, current_stream(), y,
         places, x);
}

template <>
void sequence_max_backward<Cuda>(Packed<float> dx, const float* dy, const int32_t* places, int) {
  if (dx.n_rows * dx.d == 0) return;
  launch(sequence_max_backward_kernel, dim3(blocks_for(dx.n_sequences * dx.d, kThreads)), dim3(kThreads), 0,
         current_stream(), dx, dy, places);
}

template <>
void mixture_forward<Cuda>(float* y, float* w, const float* v, const float* scores, const float* bias,
                           const uint8_t* present, const Mixture& size, int) {
  if (size.n == 0) return;
  launch(mixture_forward_kernel, dim3(blocks_for(size.n, kWarps)), dim3(kThreads), 0, current_stream(), y, w, v, scores,
         bias, present, size);
}

template <>
void mixture_backward<Cuda>(float* dv, float* dscores, const float* dy, const float* v, const float* w,
                            const Mixture& size, int) {
  if (size.n == 0) return;
  launch(mixture_backward_kernel, dim3(blocks_for(size.n, kWarps)), dim3(kThreads), 0, current_stream(), dv, dscores,
         dy, v, w, size);
}

}  // namespace recsys_fast
