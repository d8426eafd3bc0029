// Backward looks at the windows that hold a place, so that nothing is added by two threads, and in their order.
#include "cuda/channel_lanes.h"
#include "ops/conv2d.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = ChannelLanes::kThreads;

__global__ void __launch_bounds__(kThreads) pool_forward_kernel(float* y, int32_t* argmax, const float* x, PoolShape s,
                                                                ChannelLanes lanes, ImagePlaces results, int64_t n) {
  const int64_t number = lanes.place();
  if (number >= n) return;
  const ImagePlaces::Place at = results.at(number);
  const float* image = x + at.image * (s.height * s.width * s.channels);
  const int64_t corner = (at.row * s.stride_h * s.width + at.col * s.stride_w) * s.channels;
  for (int64_t k = lanes.first(); k < s.channels; k += lanes.step()) {
    float best = image[corner + k], total = 0.0f;
    int64_t where = corner + k;
    for (int64_t i = 0; i < s.window_h; ++i) {
      for (int64_t j = 0; j < s.window_w; ++j) {
        const int64_t pixel = corner + (i * s.width + j) * s.channels + k;
        const float value = image[pixel];
        total += value;
        if (value > best) {
          best = value;
          where = pixel;
        }
      }
    }
    y[number * s.channels + k] = argmax == nullptr ? total / static_cast<float>(s.window_h * s.window_w) : best;
    if (argmax != nullptr) argmax[number * s.channels + k] = static_cast<int32_t>(where);
  }
}

// The windows along one side that hold a place: [first, last).
struct Holding {
  int64_t first, last;
  __device__ Holding(int64_t place, int64_t window, int64_t stride, int64_t n)
      : first(place < window ? 0 : (place - window) / stride + 1), last(min(n, place / stride + 1)) {}
};

__global__ void __launch_bounds__(kThreads)
    pool_backward_kernel(float* dx, const float* dy, const int32_t* argmax, PoolShape s, ChannelLanes lanes,
                         ImagePlaces pixels, int64_t high, int64_t wide, int64_t n) {
  const int64_t number = lanes.place();
  if (number >= n) return;
  const ImagePlaces::Place at = pixels.at(number);
  const Holding rows(at.row, s.window_h, s.stride_h, high), cols(at.col, s.window_w, s.stride_w, wide);
  for (int64_t k = lanes.first(); k < s.channels; k += lanes.step()) {
    const int64_t own = (at.row * s.width + at.col) * s.channels + k;
    float sum = 0.0f;
    for (int64_t row = rows.first; row < rows.last; ++row) {
      for (int64_t col = cols.first; col < cols.last; ++col) {
        const int64_t result = ((at.image * high + row) * wide + col) * s.channels + k;
        if (argmax == nullptr || argmax[result] == own) sum += dy[result];
      }
    }
    dx[number * s.channels + k] = argmax == nullptr ? sum / static_cast<float>(s.window_h * s.window_w) : sum;
  }
}

}  // namespace

template <>
void pool_forward<Cuda>(float* y, int32_t* argmax, const float* x, int64_t n, const PoolShape& shape, int) {
  const int64_t n_results = checked_places(n * shape.high() * shape.wide());
  if (n_results == 0) return;
  const ChannelLanes lanes(shape.channels);
  launch(pool_forward_kernel, lanes.grid(n_results), dim3(kThreads), 0, current_stream(), y, argmax, x, shape, lanes,
         ImagePlaces(shape.high(), shape.wide()), n_results);
}

template <>
void pool_backward<Cuda>(float* dx, const float* dy, const int32_t* argmax, int64_t n, const PoolShape& shape, int) {
  const int64_t n_pixels = checked_places(n * shape.height * shape.width);
  if (n_pixels == 0) return;
  const ChannelLanes lanes(shape.channels);
  launch(pool_backward_kernel, lanes.grid(n_pixels), dim3(kThreads), 0, current_stream(), dx, dy, argmax, shape, lanes,
         ImagePlaces(shape.height, shape.width), shape.high(), shape.wide(), n_pixels);
}

}  // namespace recsys_fast
