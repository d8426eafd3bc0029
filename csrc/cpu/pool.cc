// Pooling of images: a worker takes whole images. Windows may overlap.
#include <algorithm>

#include "core/row_ends.h"
#include "core/thread_pool.h"
#include "ops/conv2d.h"

namespace recsys_fast {
namespace {

// Maxima of one window for up to kLanes channels from x + base on. Places ascend, so that the first of equals stays.
RF_INLINE Vec window_max(const float* x, int64_t base, const PoolShape& s, int64_t n_channels, VecInt* place) {
  VecInt lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  Vec best = load_up_to(x + base, n_channels);
  VecInt at = lane + static_cast<int32_t>(base);
  for (int64_t i = 0; i < s.window_h; ++i) {
    for (int64_t j = 0; j < s.window_w; ++j) {
      const int64_t where = base + (i * s.width + j) * s.channels;
      const Vec v = load_up_to(x + where, n_channels);
      const auto more = v > best;
      best = more ? v : best;
      at = more ? lane + static_cast<int32_t>(where) : at;
    }
  }
  *place = at;
  return best;
}

RF_INLINE Vec window_sum(const float* x, int64_t base, const PoolShape& s, int64_t n_channels) {
  Vec sum = {};
  for (int64_t i = 0; i < s.window_h; ++i) {
    for (int64_t j = 0; j < s.window_w; ++j) sum += load_up_to(x + base + (i * s.width + j) * s.channels, n_channels);
  }
  return sum;
}

RF_INLINE void store_places(int32_t* out, VecInt v, int64_t n) {
  if (n >= kLanes) {
    store(out, v);
  } else {
    for (int64_t i = 0; i < n; ++i) out[i] = v[i];
  }
}

// body(place in the result, place of the window's first number in the image), for every window.
template <class Body>
RF_INLINE void for_windows(const PoolShape& s, Body&& body) {
  const int64_t high = s.high(), wide = s.wide();
  for (int64_t row = 0; row < high; ++row) {
    for (int64_t col = 0; col < wide; ++col) {
      body((row * wide + col) * s.channels, (row * s.stride_h * s.width + col * s.stride_w) * s.channels);
    }
  }
}

}  // namespace

template <>
void pool_forward<Cpu>(float* y, int32_t* argmax, const float* x, int64_t n, const PoolShape& shape, int n_threads) {
  const int64_t in = shape.height * shape.width * shape.channels, out = shape.high() * shape.wide() * shape.channels;
  const float scale = 1.0f / static_cast<float>(shape.window_h * shape.window_w);
  parallel_for(n, 1, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const float* image = x + i * in;
      for_windows(shape, [&](int64_t to, int64_t from) {
        for (int64_t k = 0; k < shape.channels; k += kLanes) {
          const int64_t left = shape.channels - k;
          if (argmax == nullptr) {
            store_up_to(y + i * out + to + k, window_sum(image, from + k, shape, left) * scale, left);
          } else {
            VecInt place;
            store_up_to(y + i * out + to + k, window_max(image, from + k, shape, left, &place), left);
            store_places(argmax + i * out + to + k, place, left);
          }
        }
      });
    }
  });
}

template <>
void pool_backward<Cpu>(float* dx, const float* dy, const int32_t* argmax, int64_t n, const PoolShape& shape,
                        int n_threads) {
  const int64_t in = shape.height * shape.width * shape.channels, out = shape.high() * shape.wide() * shape.channels;
  const float scale = 1.0f / static_cast<float>(shape.window_h * shape.window_w);
  parallel_for(n, 1, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      float* image = dx + i * in;
      const float* given = dy + i * out;
      std::fill_n(image, in, 0.0f);
      if (argmax != nullptr) {
        for (int64_t k = 0; k < out; ++k) image[argmax[i * out + k]] += given[k];
        continue;
      }
      for_windows(shape, [&](int64_t from, int64_t base) {
        for (int64_t r = 0; r < shape.window_h; ++r) {
          for (int64_t c = 0; c < shape.window_w; ++c) {
            float* to = image + base + (r * shape.width + c) * shape.channels;
            for (int64_t k = 0; k < shape.channels; k += kLanes) {
              const int64_t left = shape.channels - k;
              store_up_to(to + k, load_up_to(to + k, left) + scale * load_up_to(given + from + k, left), left);
            }
          }
        }
      });
    }
  });
}

}  // namespace recsys_fast
