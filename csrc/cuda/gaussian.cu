// A warp takes a row, a lane four numbers of it at a time, which share a draw. Arithmetic of the noise and of the
// divergence is in float64, as on the CPU: little beside the layers around it.
#include "ops/gaussian.h"

#include "core/rng.h"
#include "cuda/reduce.h"
#include "cuda/sum.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarpSize, kDraw = 4;

// Whose noise; none where there is no key.
struct Noise {
  NoiseKey key;
  bool any;
  explicit Noise(const NoiseKey* given) : key(given != nullptr ? *given : NoiseKey{}), any(given != nullptr) {}

  // Four normals from four words: Box & Muller 1958.
  __device__ __forceinline__ void draw(float (&out)[kDraw], int64_t row, int64_t block) const {
    if (!any) return;
    const uint64_t sample = uint64_t{key.site} << 32 | static_cast<uint64_t>(row);
    const Philox words = draw4(key.seed, key.step, sample, static_cast<uint32_t>(block));
#pragma unroll
    for (int pair = 0; pair < kDraw; pair += 2) {
      const double radius = sqrt(-2.0 * log(1.0 - to_unit(words[pair])));  // of (0, 1]
      const double angle = 6.283185307179586 * to_unit(words[pair + 1]);
      out[pair] = static_cast<float>(radius * cos(angle));
      out[pair + 1] = static_cast<float>(radius * sin(angle));
    }
  }
};

// use(c, noise) for the lane's columns below k of a row.
template <class Use>
__device__ __forceinline__ void for_noise(const Noise& noise, int64_t row, int64_t k, const Use& use) {
#pragma unroll 1
  for (int64_t block = Warp::lane(); block * kDraw < k; block += kWarpSize) {
    float own[kDraw] = {};
    noise.draw(own, row, block);
#pragma unroll
    for (int i = 0; i < kDraw; ++i) {
      if (block * kDraw + i < k) use(block * kDraw + i, own[i]);
    }
  }
}

// z and divergence (n) of each row, overwritten.
__global__ void __launch_bounds__(kThreads)
    gaussian_forward_kernel(Rows<float> z, double* divergence, const float* stats, Noise noise) {
  const int64_t t = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize, k = z.d;
  if (t >= z.n) return;
  const float *mu = stats + 2 * t * k, *v = mu + k;
  double sum = 0.0;
  for_noise(noise, t, k, [&](int64_t c, float own) {
    const double mean = mu[c], log_variance = v[c];
    sum += exp(log_variance) + mean * mean - 1.0 - log_variance;
    z.row(t)[c] = noise.any ? mu[c] + expf(0.5f * v[c]) * own : mu[c];
  });
  sum = Warp::sum(sum);
  if (Warp::lane() == 0) divergence[t] = 0.5 * sum;
}

__global__ void __launch_bounds__(kThreads)
    gaussian_backward_kernel(float* dstats, Rows<const float> dz, const float* stats, float kl_weight, Noise noise) {
  const int64_t t = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize, k = dz.d;
  if (t >= dz.n) return;
  const float *mu = stats + 2 * t * k, *v = mu + k, *dt = dz.row(t);
  float *dmu = dstats + 2 * t * k, *dv = dmu + k;
  for_noise(noise, t, k, [&](int64_t c, float own) {
    dmu[c] = dt[c] + kl_weight * mu[c];
    dv[c] = 0.5f * (dt[c] * expf(0.5f * v[c]) * own + kl_weight * expm1f(v[c]));
  });
}

}  // namespace

template <>
double gaussian_forward<Cuda>(Rows<float> z, const float* stats, const NoiseKey* key, int) {
  if (z.n == 0) return 0.0;
  const Stream stream = current_stream();
  DeviceBuffer<double> divergence(z.n, stream);
  launch(gaussian_forward_kernel, dim3(blocks_for(z.n, kWarps)), dim3(kThreads), 0, stream, z, divergence.data(), stats,
         Noise(key));
  return device_sum(divergence.data(), z.n, stream);
}

template <>
void gaussian_backward<Cuda>(float* dstats, Rows<const float> dz, const float* stats, float kl_weight,
                             const NoiseKey* key, int) {
  if (dz.n == 0) return;
  launch(gaussian_backward_kernel, dim3(blocks_for(dz.n, kWarps)), dim3(kThreads), 0, current_stream(), dstats, dz,
         stats, kl_weight, Noise(key));
}

}  // namespace recsys_fast
