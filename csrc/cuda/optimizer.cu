// Steps are bound by memory: a thread takes one element at a time, neighbours neighbours, so that the floor (Adam: four
// reads and three writes of 4 bytes) is met by whole lines. Rows go to groups of as many threads as a row has columns,
// 32 at most.
#include "ops/optimizer.h"

#include <type_traits>

#include "cuda/reduce.h"
#include "cuda/sum.h"
#include "ops/optimizer_rates.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kChunk = 16 * kThreads;  // elements of a partial sum of squares

// A parameter's memory; m and v null where the kind does not keep them.
struct Moved {
  float *param, *m, *v;
};

// One step of element `at` by the gradient g; the formulas are in ops/optimizer.h.
template <OptimizerKind kKind, bool kMomentum>
__device__ __forceinline__ void step_element(const Moved& to, int64_t at, float g, const OptimizerRates& r) {
  const float param = to.param[at];
  g = g * r.grad_scale + param * r.decay;
  if constexpr (kKind == OptimizerKind::kAdam) {
    const float m = to.m[at] * r.beta1 + g * r.beta1_rest, v = to.v[at] * r.beta2 + g * g * r.beta2_rest;
    to.m[at] = m;
    to.v[at] = v;
    to.param[at] = param - (m / (sqrtf(v) * r.second + r.eps) * r.lr + param * r.shrink);
  } else {
    if constexpr (kKind != OptimizerKind::kSgd) {
      const float v = to.v[at] + g * g;
      to.v[at] = v;
      g = kKind == OptimizerKind::kAdagrad ? g / (sqrtf(v) + r.eps) : g / sqrtf(v + r.eps);
    }
    if constexpr (kMomentum) to.m[at] = g = to.m[at] * r.beta1 + g;
    to.param[at] = param - (g * r.lr + param * r.shrink);
  }
}

template <OptimizerKind kKind, bool kMomentum>
__global__ void __launch_bounds__(kThreads)
    optimizer_step_kernel(Moved to, const float* grad, int64_t n, OptimizerRates rates) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at < n) step_element<kKind, kMomentum>(to, at, grad[at], rates);
}

// Row k of `moved` rows: rows[k] of the table with gradient row k, or, where rows is null, row k with gradient row
// places[k] - 1, none where that is 0. A group of `width` threads, a power of two, per row and width columns (grid's
// y).
template <OptimizerKind kKind, bool kMomentum>
__global__ void __launch_bounds__(kThreads)
    optimizer_rows_kernel(Moved to, const int32_t* rows, const int32_t* places, const float* drows, int64_t moved,
                          int64_t d, int width, OptimizerRates rates) {
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t k = int64_t{blockIdx.x} * (kThreads / width) + thread / width;
  const int64_t c = int64_t{blockIdx.y} * width + thread % width;
  if (k >= moved || c >= d) return;
  const int64_t row = rows != nullptr ? rows[k] : k, source = rows != nullptr ? k : int64_t{places[k]} - 1;
  step_element<kKind, kMomentum>(to, row * d + c, source >= 0 ? drows[source * d + c] : 0.0f, rates);
}

// places[rows[k]] = k + 1.
__global__ void __launch_bounds__(kThreads) row_places_kernel(int32_t* places, const int32_t* rows, int64_t n) {
  const int64_t k = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (k < n) places[rows[k]] = static_cast<int32_t>(k + 1);
}

// sums[b] = sum of x[k]^2 over chunk b. In float64, whose products hold squares beyond float32.
__global__ void __launch_bounds__(kThreads) square_sums_kernel(double* sums, const float* x, int64_t n) {
  RF_SHARED(double, scratch, kWarpSize);
  const int64_t first = blockIdx.x * kChunk, end = min(n, first + kChunk);
  double sum = 0.0;
  for (int64_t k = first + threadIdx.x; k < end; k += kThreads) {
    const double value = x[k];
    sum += value * value;
  }
  sum = Block::sum(sum, scratch);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// use(kind, momentum) with both as constants.
template <class Use>
void with_form(const OptimizerForm& form, bool momentum, Use&& use) {
  using Kind = OptimizerKind;
  const auto choose = [&](auto kind) {
    if (momentum) return use(kind, std::true_type());
    return use(kind, std::false_type());
  };
  switch (form.kind) {
    case Kind::kSgd:
      return choose(std::integral_constant<Kind, Kind::kSgd>());
    case Kind::kAdagrad:
      return choose(std::integral_constant<Kind, Kind::kAdagrad>());
    case Kind::kAdagradRoot:
      return choose(std::integral_constant<Kind, Kind::kAdagradRoot>());
    case Kind::kAdam:
      return use(std::integral_constant<Kind, Kind::kAdam>(), std::false_type());
  }
}

}  // namespace

template <>
void optimizer_step<Cuda>(float* param, const float* grad, float* m, float* v, int64_t n, const OptimizerForm& form,
                          int) {
  if (n == 0) return;
  const Moved to{param, m, v};
  with_form(form, m != nullptr, [&](auto kind, auto momentum) {
    launch(optimizer_step_kernel<kind(), momentum()>, dim3(blocks_for(n, kThreads)), dim3(kThreads), 0,
           current_stream(), to, grad, n, optimizer_rates(form));
  });
}

template <>
void optimizer_step_rows<Cuda>(Rows<float> table, float* m, float* v, const int32_t* rows, Rows<const float> drows,
                               bool lazy, const OptimizerForm& form, int) {
  const Stream stream = current_stream();
  const int64_t moved = lazy ? drows.n : table.n;
  if (moved * table.d == 0) return;
  DeviceBuffer<int32_t> places(lazy ? 0 : table.n, stream);
  if (!lazy) {
    fill_zero(places.data(), table.n, stream);
    launch(row_places_kernel, dim3(blocks_for(drows.n, kThreads)), dim3(kThreads), 0, stream, places.data(), rows,
           drows.n);
  }
  int width = 1;
  while (width < kWarpSize && width < table.d) width *= 2;
  const dim3 grid(blocks_for(moved, kThreads / width), blocks_for(table.d, width));
  const Moved to{table.data, m, v};
  with_form(form, m != nullptr, [&](auto kind, auto momentum) {
    launch(optimizer_rows_kernel<kind(), momentum()>, grid, dim3(kThreads), 0, stream, to, lazy ? rows : nullptr,
           places.data(), drows.data, moved, table.d, width, optimizer_rates(form));
  });
}

template <>
double square_sum<Cuda>(const float* x, int64_t n, int) {
  if (n == 0) return 0.0;
  const Stream stream = current_stream();
  const unsigned chunks = blocks_for(n, kChunk);
  DeviceBuffer<double> sums(chunks, stream);
  launch(square_sums_kernel, dim3(chunks), dim3(kThreads), 0, stream, sums.data(), x, n);
  return device_sum(sums.data(), chunks, stream);
}

}  // namespace recsys_fast
