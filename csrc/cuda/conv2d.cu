// Convolutions as products of tiles whose left rows are the windows, read where they lie in the images: no array of
// windows exists. Where a number stands is found by four multiplications per element, next to 64 multiply-adds. Results
// before pooling are in memory, as is their gradient: n out_h out_w d numbers. Backward: dw is a product over all
// results, whose parts depend on sizes only; dx one over the places of the kernel, of which a stride leaves zeros.
#include "ops/conv2d.h"

#include <algorithm>

#include "cuda/activation.h"
#include "cuda/channel_lanes.h"
#include "cuda/gemm.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = ChannelLanes::kThreads;

// What both directions know. Of results that pooling leaves out there are none.
struct ConvPlan {
  int height, width, channels, stride_h, stride_w, top, left, rows, cols;  // rows, cols: of results before pooling
  int64_t d, n_results, n_pixels;                                          // of all images
  ImagePlaces results;
  Divider per_tap, per_line;  // channels of a place of the kernel, places of a row of it

  ConvPlan(const ConvShape& s, int64_t n, int64_t n_filters)
      : height(static_cast<int>(s.height)),
        width(static_cast<int>(s.width)),
        channels(static_cast<int>(s.channels)),
        stride_h(static_cast<int>(s.stride_h)),
        stride_w(static_cast<int>(s.stride_w)),
        top(static_cast<int>(s.top)),
        left(static_cast<int>(s.left)),
        rows(static_cast<int>(s.high() * s.pool_h)),
        cols(static_cast<int>(s.wide() * s.pool_w)),
        d(n_filters),
        n_results(checked_places(n * rows * cols)),
        n_pixels(checked_places(n * s.height * s.width)),
        results(rows, cols),
        per_tap(s.channels),
        per_line(s.kernel_w) {
    const int64_t deepest = std::max(s.taps(), s.kernel_h * s.kernel_w * d);
    if (deepest >= int64_t{1} << 31) throw ShapeError("weights of a filter", deepest, (int64_t{1} << 31) - 1);
  }
};

// Element `tap` of the window of a result, zeros beyond the image.
struct WindowElement {
  const float* x;
  ConvPlan plan;
  __device__ __forceinline__ float at(int64_t result, int64_t tap) const {
    const ImagePlaces::Place place = plan.results.at(result);
    auto channel = static_cast<uint32_t>(tap);
    uint32_t j = plan.per_tap.split(channel);
    const uint32_t i = plan.per_line.split(j);
    const int h = static_cast<int>(place.row) * plan.stride_h - plan.top + static_cast<int>(i);
    const int w = static_cast<int>(place.col) * plan.stride_w - plan.left + static_cast<int>(j);
    if (h < 0 || h >= plan.height || w < 0 || w >= plan.width) return 0.0f;
    return x[((int64_t{place.image} * plan.height + h) * plan.width + w) * plan.channels + channel];
  }
};
struct Windows {
  static constexpr bool kAlongDepth = true, kStrided = false;
  WindowElement element;
  __device__ __forceinline__ float operator()(int64_t i, int64_t k) const { return element.at(i, k); }
};
struct WindowColumns {
  static constexpr bool kAlongDepth = false, kStrided = false;
  WindowElement element;
  __device__ __forceinline__ float operator()(int64_t i, int64_t k) const { return element.at(k, i); }
};

// Row i: what the results that look at pixel i have as gradients, place of the kernel by place; zeros where there is
// none.
struct PixelGradients {
  static constexpr bool kAlongDepth = true, kStrided = false;
  const float* g;
  ConvPlan plan;
  ImagePlaces pixels;
  Divider per_filter, down, right;
  __device__ __forceinline__ float operator()(int64_t i, int64_t k) const {
    const ImagePlaces::Place pixel = pixels.at(i);
    auto filter = static_cast<uint32_t>(k);
    uint32_t tap_w = per_filter.split(filter);
    const uint32_t tap_h = plan.per_line.split(tap_w);
    const int above = static_cast<int>(pixel.row) + plan.top - static_cast<int>(tap_h);
    const int before = static_cast<int>(pixel.col) + plan.left - static_cast<int>(tap_w);
    if (above < 0 || before < 0) return 0.0f;
    auto rest_h = static_cast<uint32_t>(above), rest_w = static_cast<uint32_t>(before);
    const auto row = static_cast<int>(down.split(rest_h)), col = static_cast<int>(right.split(rest_w));
    if (rest_h != 0 || rest_w != 0 || row >= plan.rows || col >= plan.cols) return 0.0f;
    return g[((int64_t{pixel.image} * plan.rows + row) * plan.cols + col) * plan.d + filter];
  }
};

// Column i: the weights of channel i, place by place, filter by filter.
struct TurnedWeights {
  static constexpr bool kAlongDepth = true, kStrided = false;
  const float* w;
  int64_t channels, d;
  Divider per_filter;
  __device__ __forceinline__ float operator()(int64_t i, int64_t k) const {
    auto filter = static_cast<uint32_t>(k);
    const uint32_t tap = per_filter.split(filter);
    return w[(tap * channels + i) * d + filter];
  }
};

// y = activation(product + b), pre = product + b.
struct ConvOut {
  float *y, *pre;
  const float* b;
  int64_t d;
  Activation activation;
  __device__ void operator()(int64_t row, int64_t col, float value) const {
    if (b != nullptr) value += b[col];
    if (pre != nullptr) pre[row * d + col] = value;
    y[row * d + col] = activate(activation, value);
  }
};

// The windows of pooling, which neither overlap nor leave gaps: y's places, and where each one's results begin.
struct PoolWindows {
  ImagePlaces places;
  int64_t n, d, rows, cols, pool_h, pool_w;
  PoolWindows(const ConvShape& s, const ConvPlan& plan, int64_t n_images)
      : places(s.high(), s.wide()),
        n(n_images * s.high() * s.wide()),
        d(plan.d),
        rows(plan.rows),
        cols(plan.cols),
        pool_h(s.pool_h),
        pool_w(s.pool_w) {}
  __device__ int64_t first(int64_t number) const {
    const ImagePlaces::Place at = places.at(number);
    return ((at.image * rows + at.row * pool_h) * cols + at.col * pool_w) * d;
  }
  __device__ int64_t step(int64_t i, int64_t j) const { return (i * cols + j) * d; }
};

// y from the maxima of windows of c.
__global__ void __launch_bounds__(kThreads)
    conv_pool_kernel(ConvOut out, uint8_t* argmax, const float* c, PoolWindows windows, ChannelLanes lanes) {
  const int64_t number = lanes.place();
  if (number >= windows.n) return;
  const float* from = c + windows.first(number);
  for (int64_t k = lanes.first(); k < windows.d; k += lanes.step()) {
    float best = from[k];
    int64_t place = 0;
    for (int64_t i = 0; i < windows.pool_h; ++i) {
      for (int64_t j = 0; j < windows.pool_w; ++j) {
        const float value = from[windows.step(i, j) + k];
        if (value > best) {
          best = value;
          place = i * windows.pool_w + j;
        }
      }
    }
    argmax[number * windows.d + k] = static_cast<uint8_t>(place);
    out(number, k, best);
  }
}

// g: the gradient before activation and pooling, zeros where a result was no maximum.
__global__ void __launch_bounds__(kThreads)
    conv_spread_kernel(float* g, const float* dy, const float* y, ConvKept<const float, const uint8_t> kept,
                       Activation activation, PoolWindows windows, ChannelLanes lanes) {
  const int64_t number = lanes.place();
  if (number >= windows.n) return;
  float* to = g + windows.first(number);
  for (int64_t k = lanes.first(); k < windows.d; k += lanes.step()) {
    const int64_t at = number * windows.d + k;
    const float value = dy[at] * activation_slope(activation, y[at], kept.pre == nullptr ? 0.0f : kept.pre[at]);
    const int64_t place = kept.argmax == nullptr ? 0 : kept.argmax[at];
    for (int64_t i = 0; i < windows.pool_h; ++i) {
      for (int64_t j = 0; j < windows.pool_w; ++j) {
        to[windows.step(i, j) + k] = i * windows.pool_w + j == place ? value : 0.0f;
      }
    }
  }
}

}  // namespace

template <>
void conv2d_forward<Cuda>(float* y, ConvKept<float, uint8_t> kept, const float* x, int64_t n, const ConvShape& shape,
                          const ConvWeights& layer, int) {
  if (n == 0) return;
  const Stream stream = current_stream();
  const int64_t d = layer.d;
  const ConvPlan plan(shape, n, d);
  const Windows windows{{x, plan}};
  const AcrossDepth w{layer.w, d};
  const ConvOut out{y, kept.pre, layer.b, d, layer.activation};
  if (!shape.pooled()) return gemm(windows, w, out, plan.n_results, d, shape.taps(), stream);
  DeviceBuffer<float> c(plan.n_results * d, stream);
  gemm(windows, w, BiasOut{c.data(), d, nullptr}, plan.n_results, d, shape.taps(), stream);
  const PoolWindows pools(shape, plan, n);
  const ChannelLanes lanes(d);
  launch(conv_pool_kernel, lanes.grid(pools.n), dim3(kThreads), 0, stream, out, kept.argmax, c.data(), pools, lanes);
}

template <>
void conv2d_backward<Cuda>(float* dx, float* dw, float* db, const float* dy, const float* y,
                           ConvKept<const float, const uint8_t> kept, const float* x, int64_t n, const ConvShape& shape,
                           const ConvWeights& layer, int) {
  const Stream stream = current_stream();
  const int64_t d = layer.d;
  const ConvPlan plan(shape, n, d);
  DeviceBuffer<float> g(plan.n_results * d, stream);
  if (n > 0) {
    const PoolWindows pools(shape, plan, n);
    const ChannelLanes lanes(d);
    launch(conv_spread_kernel, lanes.grid(pools.n), dim3(kThreads), 0, stream, g.data(), dy, y, kept, layer.activation,
           pools, lanes);
  }
  gemm_over_rows(dw, d, db, WindowColumns{{x, plan}}, AcrossDepth{g.data(), d}, shape.taps(), d, plan.n_results,
                 stream);
  if (dx == nullptr) return;
  const Divider per_filter(d);
  const PixelGradients pixels{g.data(),
                              plan,
                              ImagePlaces(shape.height, shape.width),
                              per_filter,
                              Divider(shape.stride_h),
                              Divider(shape.stride_w)};
  gemm(pixels, TurnedWeights{layer.w, shape.channels, d, per_filter}, BiasOut{dx, shape.channels, nullptr},
       plan.n_pixels, shape.channels, shape.kernel_h * shape.kernel_w * d, stream);
}

}  // namespace recsys_fast
