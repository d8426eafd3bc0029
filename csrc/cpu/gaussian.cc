// Reparametrised normal samples and their divergence from N(0, 1) (Kingma & Welling 2014). The noise is a function of
// counters, so the backward pass draws it again. Elementwise and small beside the layers around it: plain loops.
#include "ops/gaussian.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/arena.h"
#include "core/rng.h"
#include "core/thread_pool.h"
#include "cpu/block_tiles.h"

namespace recsys_fast {
namespace {

constexpr int64_t kRows = 16;  // of a chunk

// Four normals from four words: Box & Muller 1958.
std::array<double, 4> normals(const NoiseKey& key, int64_t row, int64_t block) {
  const uint64_t sample = uint64_t{key.site} << 32 | static_cast<uint64_t>(row);
  const Philox words = draw4(key.seed, key.step, sample, static_cast<uint32_t>(block));
  std::array<double, 4> out;
  for (int pair = 0; pair < 4; pair += 2) {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - to_unit(words[pair])));  // of (0, 1]
    const double angle = 6.283185307179586 * to_unit(words[pair + 1]);
    out[pair] = radius * std::cos(angle);
    out[pair + 1] = radius * std::sin(angle);
  }
  return out;
}

// use(c, noise) for the k elements of a row, in order; noise 0 without a key.
template <class Use>
void for_noise(const NoiseKey* key, int64_t row, int64_t k, Use&& use) {
  for (int64_t c = 0; c < k; c += 4) {
    const auto noise = key != nullptr ? normals(*key, row, c / 4) : std::array<double, 4>{};
    for (int64_t i = c; i < std::min(k, c + 4); ++i) use(i, static_cast<float>(noise[i - c]));
  }
}

}  // namespace

template <>
double gaussian_forward<Cpu>(Rows<float> z, const float* stats, const NoiseKey* key, int n_threads) {
  const int64_t k = z.d;
  Arena& memory = call_arena();
  memory.reset(Arena::padded<double>(z.n));
  double* divergence = memory.take<double>(z.n);
  parallel_for(z.n, kRows, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float *mu = stats + 2 * t * k, *v = mu + k;
      double sum = 0.0;
      for_noise(key, t, k, [&](int64_t c, float noise) {
        sum += std::exp(static_cast<double>(v[c])) + static_cast<double>(mu[c]) * mu[c] - 1.0 - v[c];
        z.row(t)[c] = key != nullptr ? mu[c] + std::exp(0.5f * v[c]) * noise : mu[c];
      });
      divergence[t] = 0.5 * sum;
    }
  });
  double total = 0.0;
  for (int64_t t = 0; t < z.n; ++t) total += divergence[t];
  return total;
}

template <>
void gaussian_backward<Cpu>(float* dstats, Rows<const float> dz, const float* stats, float kl_weight,
                            const NoiseKey* key, int n_threads) {
  const int64_t k = dz.d;
  parallel_for(dz.n, kRows, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t t = begin; t < end; ++t) {
      const float *mu = stats + 2 * t * k, *v = mu + k, *dt = dz.row(t);
      float *dmu = dstats + 2 * t * k, *dv = dmu + k;
      for_noise(key, t, k, [&](int64_t c, float noise) {
        dmu[c] = dt[c] + kl_weight * mu[c];
        dv[c] = 0.5f * (dt[c] * std::exp(0.5f * v[c]) * noise + kl_weight * std::expm1(v[c]));
      });
    }
  });
}

}  // namespace recsys_fast
