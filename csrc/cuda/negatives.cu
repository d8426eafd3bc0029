// Random words cost about 100 integer instructions per four; searches wait for L2. So: a thread per block of words, all
// lanes in step (halvings do not depend on the data), and enough threads that the waiting overlaps.
#include "ops/negatives.h"

#include "core/rng.h"
#include "cuda/id_row.h"
#include "cuda/kernel.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256;
constexpr uint32_t kTries = 15;
constexpr uint32_t kWords = 2 * (kTries + 1);             // draws of one weighted negative: two a try, two for the rest
constexpr uint32_t kDrawBlock = (uint32_t{1} << 30) - 1;  // of draws without verification: other samplers use the first

// a * b rounded on its own: fused with what follows it would not be the bits of the other backends.
__device__ inline double product(double a, double b) {
#ifdef __CUDA_ARCH__
  return __dmul_rn(a, b);
#else
  return a * b;
#endif
}

// 53 bits of two words, in [0, 1).
__device__ inline double to_unit(uint32_t high, uint32_t low) {
  return static_cast<double>((uint64_t{high} << 32 | low) >> 11) * 0x1p-53;
}

// The random words of one user's negatives, four at a time.
class Words {
 public:
  __device__ Words(uint64_t seed, uint32_t epoch, uint64_t sample) : seed_(seed), epoch_(epoch), sample_(sample) {}
  __device__ double unit(uint32_t k) {  // of words k and k + 1, k even
    if (k / 4 != block_) four_ = draw4(seed_, epoch_, sample_, block_ = k / 4);
    return k % 4 == 0 ? to_unit(four_[0], four_[1]) : to_unit(four_[2], four_[3]);
  }

 private:
  uint64_t seed_;
  uint32_t epoch_;
  uint64_t sample_;
  uint32_t block_ = 0xffffffffu;  // no block of words has this number
  Philox four_{};
};

// Running sums of the items' weights.
struct Weights {
  const double* cdf;
  int64_t n_items;

  __device__ int32_t at(double unit) const {
    const double x = product(unit, cdf[n_items - 1]);
    return static_cast<int32_t>(first_above(n_items, [&](int64_t i) { return cdf[i] > x; }));
  }
};

// Calls use(first, end, below, weight) for the runs of items between those of the row that have a weight, until it says
// stop.
template <class Use>
__device__ void for_gaps(const IdRow& row, const Weights& weights, Use&& use) {
  for (int64_t t = 0; t <= row.n; ++t) {
    const int64_t first = t > 0 ? row.ids[t - 1] + int64_t{1} : 0;
    const int64_t end = t < row.n ? row.ids[t] : weights.n_items;
    if (first >= end) continue;
    const double below = first > 0 ? weights.cdf[first - 1] : 0.0;
    const double weight = weights.cdf[end - 1] - below;
    if (weight > 0.0 && use(first, end, below, weight)) return;
  }
}

// An item outside the row with probability as its weight, by walking the gaps; -1 if none has a weight.
__device__ int32_t absent_by_weight(const IdRow& row, const Weights& weights, double unit) {
  const double* cdf = weights.cdf;
  double total = 0.0;
  for_gaps(row, weights, [&](int64_t, int64_t, double, double weight) {
    total += weight;
    return false;
  });
  double left = product(unit, total);
  int64_t item = -1;
  for_gaps(row, weights, [&](int64_t first, int64_t end, double below, double weight) {
    // The gap's last item with a weight: where rounding would end beyond the gap, or beyond all of them.
    const double most = cdf[end - 1];
    item = first + first_above(end - first, [&](int64_t i) { return cdf[first + i] >= most; });
    if (left < weight) {
      const double x = below + left;
      item = min(item, first + first_above(end - first, [&](int64_t i) { return cdf[first + i] > x; }));
      return true;
    }
    left -= weight;
    return false;
  });
  return static_cast<int32_t>(item);
}

__device__ IdRow row_of(const Csr& matrix, int64_t row) {
  const int64_t begin = matrix.row_ptr[row];
  return {matrix.col_idx + begin, matrix.row_ptr[row + 1] - begin};
}

// A thread draws up to four negatives of one user, from one block of words.
__global__ void __launch_bounds__(kThreads)
    sample_negatives_kernel(Rows<int32_t> out, const int32_t* users, Csr positives, uint64_t seed, uint32_t epoch) {
  const int64_t per_row = (out.d + 3) / 4, at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t i = at / per_row, j = at % per_row * 4;
  if (i >= out.n) return;
  const IdRow row = row_of(positives, users[i]);
  const auto n_absent = static_cast<int32_t>(positives.n_cols - row.n);
  const Philox words = draw4(seed, epoch, static_cast<uint64_t>(i), static_cast<uint32_t>(j / 4));
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    if (j + w < out.d) out.row(i)[j + w] = n_absent == 0 ? -1 : nth_absent(row, to_range(words[w], n_absent));
  }
}

// A thread draws one negative: tries from the whole distribution, then the exact way, whose distribution is the same.
__global__ void __launch_bounds__(kThreads)
    sample_weighted_negatives_kernel(Rows<int32_t> out, const int32_t* users, Csr positives, const double* cdf,
                                     uint64_t seed, uint32_t epoch) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= out.n * out.d) return;
  const int64_t i = at / out.d;
  const uint32_t first = static_cast<uint32_t>(at % out.d) * kWords;
  const IdRow row = row_of(positives, users[i]);
  if (row.n == positives.n_cols) {
    out.data[at] = -1;
    return;
  }
  const Weights weights = {cdf, positives.n_cols};
  Words words(seed, epoch, static_cast<uint64_t>(i));
  for (uint32_t k = first; k < first + 2 * kTries; k += 2) {
    const int32_t item = weights.at(words.unit(k));
    if (!row.contains(item)) {
      out.data[at] = item;
      return;
    }
  }
  out.data[at] = absent_by_weight(row, weights, words.unit(first + 2 * kTries));
}

// A thread makes the draws of one sample that are wanted: four, or two by weight.
__global__ void __launch_bounds__(kThreads)
    negatives_draw_kernel(int32_t* out, int64_t n, const double* cdf, int64_t n_items, uint64_t seed, uint32_t epoch,
                          uint64_t first) {
  const uint64_t per_sample = cdf != nullptr ? 2 : 4;
  const uint64_t sample = first / per_sample + uint64_t{blockIdx.x} * kThreads + threadIdx.x;
  const auto begin = static_cast<int64_t>(sample * per_sample - first);  // negative in the first sample
  if (begin >= n) return;
  const Philox words = draw4(seed, epoch, sample, kDrawBlock);
  const Weights weights = {cdf, n_items};
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    const int64_t i = begin + w;
    if (i < 0 || i >= n || w >= static_cast<int>(per_sample)) continue;
    out[i] = cdf != nullptr ? weights.at(to_unit(words[2 * w % 4], words[2 * w % 4 + 1]))
                            : to_range(words[w], static_cast<int32_t>(n_items));
  }
}

__global__ void __launch_bounds__(kThreads)
    philox_draw_kernel(uint32_t* out, int64_t n, uint64_t seed, uint32_t epoch, uint64_t first_sample, uint32_t k) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < n) out[i] = draw(seed, epoch, first_sample + static_cast<uint64_t>(i), k);
}

// A thread writes the words of one block that a row wants.
__global__ void __launch_bounds__(kThreads) philox_rows_kernel(Rows<uint32_t> out, const int64_t* samples,
                                                               const uint32_t* first, uint64_t seed, uint32_t epoch) {
  const int64_t per_row = out.d / 4 + 2, at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t i = at / per_row, group = at % per_row;
  if (i >= out.n) return;
  const uint32_t start = first[i];
  const uint32_t block = (start / 4 + static_cast<uint32_t>(group)) % (uint32_t{1} << 30);
  const Philox words = draw4(seed, epoch, static_cast<uint64_t>(samples[i]), block);
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    const int64_t j = 4 * group + w - start % 4;
    if (j >= 0 && j < out.d) out.row(i)[j] = words[w];
  }
}

}  // namespace

template <>
void sample_negatives<Cuda>(Rows<int32_t> out, const int32_t* users, Csr positives, const double* cdf, uint64_t seed,
                            uint32_t epoch, int) {
  if (out.n == 0 || out.d == 0) return;
  const Stream stream = current_stream();
  if (cdf != nullptr) {
    launch(sample_weighted_negatives_kernel, dim3(blocks_for(out.n * out.d, kThreads)), dim3(kThreads), 0, stream, out,
           users, positives, cdf, seed, epoch);
  } else {
    launch(sample_negatives_kernel, dim3(blocks_for(out.n * ((out.d + 3) / 4), kThreads)), dim3(kThreads), 0, stream,
           out, users, positives, seed, epoch);
  }
}

template <>
void negatives_draw<Cuda>(int32_t* out, int64_t n, const double* cdf, int64_t n_items, uint64_t seed, uint32_t epoch,
                          uint64_t first, int) {
  if (n == 0) return;
  const int64_t per_sample = cdf != nullptr ? 2 : 4;
  launch(negatives_draw_kernel, dim3(blocks_for(n / per_sample + 2, kThreads)), dim3(kThreads), 0, current_stream(),
         out, n, cdf, n_items, seed, epoch, first);
}

template <>
void philox_draw<Cuda>(uint32_t* out, int64_t n, uint64_t seed, uint32_t epoch, uint64_t first_sample, uint32_t k,
                       int) {
  if (n == 0) return;
  launch(philox_draw_kernel, dim3(blocks_for(n, kThreads)), dim3(kThreads), 0, current_stream(), out, n, seed, epoch,
         first_sample, k);
}

template <>
void philox_rows<Cuda>(Rows<uint32_t> out, const int64_t* samples, const uint32_t* first, uint64_t seed, uint32_t epoch,
                       int) {
  if (out.n == 0 || out.d == 0) return;
  launch(philox_rows_kernel, dim3(blocks_for(out.n * (out.d / 4 + 2), kThreads)), dim3(kThreads), 0, current_stream(),
         out, samples, first, seed, epoch);
}

}  // namespace recsys_fast
