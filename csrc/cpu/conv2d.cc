// Direct convolutions of images in bands of rows. The windows of a row overlap in memory: products read an image's own
// rows, one kernel row at a time, and no array of windows exists; only a band that reaches beyond the image is copied,
// with zeros around it. Maxima of windows are taken while a band's results are still in the cache. Backward: the
// gradient before the activation is spread over a band, with the kernel's reach around it, from which the images'
// gradient is a convolution with the kernel turned around.
#include "ops/conv2d.h"

#include "core/gemm.h"
#include "cpu/activations.h"
#include "cpu/block_tiles.h"
#include "cpu/row_packing.h"

namespace recsys_fast {
namespace {

constexpr int64_t kBandFloats = 24 << 10;  // results of a band, before pooling: they stay in L2 beside the weights
constexpr int64_t kUnitPlaces = 128;       // the fewest results worth handing out, or summing apart
constexpr int kSums = kTileRows * kTileVectors;
typedef uint8_t VecByte __attribute__((vector_size(kLanes)));

// Rows of a register tile that is NV vectors wide.
template <int NV>
constexpr int kRowsOf = kSums / NV < 12 ? kSums / NV : 12;

// How a call is cut: bands of pooled rows of single images.
struct Bands {
  ConvShape s;
  int64_t d, dp, rows, n_bands, wide;  // wide: results in a row before pooling that count
  Bands(const ConvShape& shape, int64_t width) : s(shape), d(width), dp(padded(width)), wide(s.wide() * s.pool_w) {
    rows = std::clamp<int64_t>(kBandFloats / (wide * dp * s.pool_h), 1, s.high());
    n_bands = (s.high() + rows - 1) / rows;
  }
  int64_t first(int64_t band) const { return band * rows * s.pool_h; }
  int64_t last(int64_t band) const { return std::min(s.high(), (band + 1) * rows) * s.pool_h; }
  int64_t places() const { return rows * s.pool_h * wide; }
  int64_t least() const { return std::max<int64_t>(1, kUnitPlaces / places()); }
  bool beyond() const {
    return s.top > 0 || s.left > 0 || (s.high() * s.pool_h - 1) * s.stride_h + s.kernel_h > s.height ||
           (wide - 1) * s.stride_w + s.kernel_w > s.width;
  }
  // Numbers of a copied row, and of a whole band of them.
  int64_t row() const { return ((wide - 1) * s.stride_w + s.kernel_w) * s.channels; }
  int64_t copied() const { return beyond() ? ((rows * s.pool_h - 1) * s.stride_h + s.kernel_h) * row() : 0; }
};

// Where the windows of a band begin: the one of (row, col) at data + row * down + col * right.
struct View {
  const float* data;
  int64_t line, down, right;  // line: from one row of the image to the next
};

View view_band(float* copy, const float* image, const Bands& bands, int64_t first, int64_t last) {
  const ConvShape& s = bands.s;
  const int64_t right = s.stride_w * s.channels;
  if (!bands.beyond()) {
    const int64_t line = s.width * s.channels;
    return {image + first * s.stride_h * line, line, s.stride_h * line, right};
  }
  const int64_t line = bands.row(), n = (last - first - 1) * s.stride_h + s.kernel_h;
  const int64_t before = s.left * s.channels;
  const int64_t inside = std::clamp<int64_t>(line - before, 0, s.width * s.channels);
  for (int64_t i = 0; i < n; ++i) {
    const int64_t row = first * s.stride_h - s.top + i;
    float* to = copy + i * line;
    if (row < 0 || row >= s.height) {
      std::fill_n(to, line, 0.0f);
      continue;
    }
    std::fill_n(to, before, 0.0f);
    std::copy_n(image + row * s.width * s.channels, inside, to + before);
    std::fill(to + before + inside, to + line, 0.0f);
  }
  return {copy, line, s.stride_h * line, right};
}

// out[r] (limit) = the sum over n_lines of a[r] + i line, n_k long, times rows of w.
template <int MR, int NV>
RF_INLINE void window_tile(float* const (&out)[MR], int64_t limit, const float* const (&a)[MR], int64_t line,
                           int64_t n_lines, int64_t n_k, const float* w, int64_t w_row) {
  Vec sum[MR][NV] = {};
  for (int64_t i = 0; i < n_lines; ++i) {
    const float* at[MR];
#pragma GCC unroll 16
    for (int r = 0; r < MR; ++r) at[r] = a[r] + i * line;
    gemm_accumulate<MR, NV>(sum, n_k, at, 1, w + i * n_k * w_row, w_row);
  }
#pragma GCC unroll 16
  for (int r = 0; r < MR; ++r) {
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) {
      if (limit > v * kLanes) store_up_to(out[r] + v * kLanes, sum[r][v], limit - v * kLanes);
    }
  }
}

template <int NV>
void window_columns(float* out, int64_t out_row, int64_t limit, const View& view, int64_t n_rows, int64_t n_cols,
                    int64_t n_lines, int64_t n_k, const float* w, int64_t w_row) {
  const int64_t n = n_rows * n_cols;
  for (int64_t t = 0; t < n; t += kRowsOf<NV>) {
    with_tile<kRowsOf<NV>, 1>(std::min<int64_t>(kRowsOf<NV>, n - t), 1, [&]<int MR, int>() {
      float* to[MR];
      const float* a[MR];
      for (int r = 0; r < MR; ++r) {
        const int64_t row = (t + r) / n_cols, col = (t + r) % n_cols;
        to[r] = out + (t + r) * out_row;
        a[r] = view.data + row * view.down + col * view.right;
      }
      window_tile<MR, NV>(to, limit, a, view.line, n_lines, n_k, w, w_row);
    });
  }
}

// out (n_rows n_cols, d), rows out_row apart, = windows of n_lines x n_k numbers times w (n_lines n_k, padded(d)).
void windows_times(float* out, int64_t out_row, int64_t d, const View& view, int64_t n_rows, int64_t n_cols,
                   int64_t n_lines, int64_t n_k, const float* w) {
  const int64_t w_row = padded(d);
  for (int64_t j = 0; j < w_row; j += kTileVectors * kLanes) {
    const int64_t n_vectors = std::min<int64_t>(kTileVectors, (w_row - j) / kLanes);
    with_tile<1, kTileVectors>(1, n_vectors, [&]<int, int NV>() {
      window_columns<NV>(out + j, out_row, std::min(out_row, d) - j, view, n_rows, n_cols, n_lines, n_k, w + j, w_row);
    });
  }
}

RF_INLINE void store_bytes(uint8_t* to, VecInt v, int64_t n) {
  const VecByte bytes = __builtin_convertvector(v, VecByte);
  std::memcpy(to, &bytes, static_cast<size_t>(std::min<int64_t>(n, kLanes)));
}
RF_INLINE VecInt load_bytes(const uint8_t* from, int64_t n) {
  VecByte bytes = {};
  std::memcpy(&bytes, from, static_cast<size_t>(std::min<int64_t>(n, kLanes)));
  return __builtin_convertvector(bytes, VecInt);
}

// A result from its window in c, rows dp apart, of which the next row of results lies `down` behind.
template <Activation A>
RF_INLINE void finish(float* y, float* pre, uint8_t* argmax, const float* c, int64_t down, const float* b,
                      const Bands& bands) {
  const ConvShape& s = bands.s;
  for (int64_t k = 0; k < bands.dp; k += kLanes) {
    Vec best = load(c + k);
    VecInt place = {};
    for (int64_t i = 0; i < s.pool_h; ++i) {
      for (int64_t j = 0; j < s.pool_w; ++j) {
        const Vec v = load(c + i * down + j * bands.dp + k);
        const auto more = v > best;
        best = more ? v : best;
        place = more ? VecInt{} + static_cast<int32_t>(i * s.pool_w + j) : place;
      }
    }
    if (argmax != nullptr) store_bytes(argmax + k, place, bands.d - k);
    if (b != nullptr) best += load_up_to(b + k, bands.d - k);
    if (pre != nullptr) store_up_to(pre + k, best, bands.d - k);
    store_up_to(y + k, activate<A>(best), bands.d - k);
  }
}

// The gradient of a band's results before activation and pooling: of (row, col) at data + row * down + col * right.
struct Spread {
  float* data;
  int64_t down, right;
};

// One vector of channels of a pooled result's gradient goes to the place of its maximum, zeros to the others.
RF_INLINE void spread(float* g, const Spread& to, Vec value, VecInt place, const ConvShape& s, int64_t skip) {
  for (int64_t i = skip; i < s.pool_h; ++i) {
    for (int64_t j = 0; j < s.pool_w; ++j) {
      const auto here = place == static_cast<int32_t>(i * s.pool_w + j);
      store(g + i * to.down + j * to.right, here ? value : Vec{});
    }
  }
}

// dw (taps, dp) += windows of the band, transposed, times its spread gradient, over rows and columns of results.
template <int NV>
void add_taps(float* dw, const View& view, const Spread& g, const Bands& bands, int64_t n_rows, int64_t j) {
  const ConvShape& s = bands.s;
  const int64_t width = s.kernel_w * s.channels, taps = s.taps();
  for (int64_t t = 0; t < taps; t += kRowsOf<NV>) {
    with_tile<kRowsOf<NV>, 1>(std::min<int64_t>(kRowsOf<NV>, taps - t), 1, [&]<int MR, int>() {
      Vec sum[MR][NV] = {};
      const float* a[MR];
      for (int r = 0; r < MR; ++r) a[r] = view.data + (t + r) / width * view.line + (t + r) % width;
      for (int64_t row = 0; row < n_rows; ++row) {
        gemm_accumulate<MR, NV>(sum, bands.wide, a, view.right, g.data + row * g.down + j, g.right);
        for (int r = 0; r < MR; ++r) a[r] += view.down;
      }
      for (int r = 0; r < MR; ++r) {
        for (int v = 0; v < NV; ++v) {
          float* at = dw + (t + r) * bands.dp + j + v * kLanes;
          store(at, load(at) + sum[r][v]);
        }
      }
    });
  }
}

// The kernel turned around: (kernel_h kernel_w dp, padded(channels)), zeros in rows and columns that pad.
void pack_turned(float* out, const float* w, const ConvShape& s, int64_t d) {
  const int64_t dp = padded(d), cp = padded(s.channels), n = s.kernel_h * s.kernel_w;
  for (int64_t tap = 0; tap < n; ++tap) {
    float* to = out + tap * dp * cp;
    pack_transpose(to, w + (n - 1 - tap) * s.channels * d, d, s.channels, d);
    std::fill(to + d * cp, to + dp * cp, 0.0f);
  }
}

struct Backward {
  float* dx;
  const float *dy, *y;
  ConvKept<const float, const uint8_t> kept;
  const float *x, *turned;
  Bands bands;
  Activation activation;

  // Rows before a band whose windows reach into its part of the image, and the sizes of the spread gradient.
  int64_t halo() const { return dx == nullptr ? 0 : (bands.s.kernel_h - 1) / bands.s.stride_h; }
  int64_t spread_cols() const { return dx == nullptr ? bands.wide : bands.s.width + bands.s.kernel_w - 1; }
  int64_t spread_rows() const {
    const ConvShape& s = bands.s;
    const int64_t rows = bands.rows * s.pool_h;
    if (dx == nullptr) return rows;
    // the last band goes on to the end of the image
    const int64_t behind = s.height + s.top - bands.first(bands.n_bands - 1) * s.stride_h;
    return std::max(rows * s.stride_h, behind) + s.kernel_h - 1;
  }
  size_t scratch() const {
    return Arena::padded<float>(spread_rows() * spread_cols() * bands.dp) + Arena::padded<float>(bands.copied());
  }

  // g = the spread gradient of rows `from` (inside the first window of pooling rows that hold it) to `last`; own rows
  // begin at `first` and add to db.
  template <Activation A>
  void fill(const Spread& g, float* db, int64_t image, int64_t from, int64_t first, int64_t last) const {
    const ConvShape& s = bands.s;
    const int64_t cols = s.wide(), d = bands.d;
    for (int64_t row = from / s.pool_h; row < last / s.pool_h; ++row) {
      const int64_t skip = std::max<int64_t>(0, from - row * s.pool_h);
      for (int64_t col = 0; col < cols; ++col) {
        const int64_t at = ((image * s.high() + row) * cols + col) * d;
        float* to = g.data + (row * s.pool_h - first) * g.down + col * s.pool_w * g.right;
        for (int64_t k = 0; k < bands.dp; k += kLanes) {
          const int64_t left = d - k;
          const Vec before = kept.pre != nullptr ? load_up_to(kept.pre + at + k, left) : Vec{};
          const Vec value = load_up_to(dy + at + k, left) * activation_slope<A>(load_up_to(y + at + k, left), before);
          if (row * s.pool_h >= first) store(db + k, load(db + k) + value);
          if (kept.argmax == nullptr) {
            store(to + k, value);
          } else {
            spread(to + k, g, value, load_bytes(kept.argmax + at + k, left), s, skip);
          }
        }
      }
    }
  }

  // Gradients of one band, added to dw (taps, dp) and db (dp).
  void band(float* dw, float* db, int64_t unit) const {
    const ConvShape& s = bands.s;
    const int64_t image = unit / bands.n_bands, number = unit % bands.n_bands;
    const int64_t first = bands.first(number), last = bands.last(number);
    Arena& arena = thread_arena();
    arena.reset(scratch());
    const int64_t size = spread_rows() * spread_cols() * bands.dp;
    float *tile = arena.take<float>(size), *copy = arena.take<float>(bands.copied());
    Spread g{tile, bands.wide * bands.dp, bands.dp};
    if (dx != nullptr) {
      std::fill_n(tile, size, 0.0f);
      const int64_t line = spread_cols() * bands.dp;
      g = {tile + (s.kernel_h - 1) * line + (s.kernel_w - 1 - s.left) * bands.dp, s.stride_h * line,
           s.stride_w * bands.dp};
    }
    with_activation(activation,
                    [&]<Activation A>() { fill<A>(g, db, image, std::max<int64_t>(0, first - halo()), first, last); });
    const View view = view_band(copy, x + image * s.image(), bands, first, last);
    for (int64_t j = 0; j < bands.dp; j += kTileVectors * kLanes) {
      with_tile<1, kTileVectors>(1, std::min<int64_t>(kTileVectors, (bands.dp - j) / kLanes),
                                 [&]<int, int NV>() { add_taps<NV>(dw, view, g, bands, last - first, j); });
    }
    if (dx == nullptr) return;
    const int64_t begin = std::max<int64_t>(0, first * s.stride_h - s.top);
    const int64_t end =
        number == bands.n_bands - 1 ? s.height : std::clamp<int64_t>(last * s.stride_h - s.top, 0, s.height);
    const int64_t line = spread_cols() * bands.dp;
    const View from{tile + (begin + s.top - first * s.stride_h) * line, line, line, bands.dp};
    windows_times(dx + image * s.image() + begin * s.width * s.channels, s.channels, s.channels, from,
                  std::max<int64_t>(0, end - begin), s.width, s.kernel_h, s.kernel_w * bands.dp, turned);
  }
};

}  // namespace

template <>
void conv2d_forward<Cpu>(float* y, ConvKept<float, uint8_t> kept, const float* x, int64_t n, const ConvShape& shape,
                         const ConvWeights& layer, int n_threads) {
  const Bands bands(shape, layer.d);
  const int64_t d = layer.d, dp = bands.dp;
  Arena& memory = call_arena();
  memory.reset(Arena::padded<float>(shape.taps() * dp));
  const float* w = layer.w;
  if (d != dp) {
    float* packed = memory.take<float>(shape.taps() * dp);
    pack_rows(packed, layer.w, d, shape.taps(), d);
    w = packed;
  }
  parallel_for(n * bands.n_bands, bands.least(), n_threads, [&](int64_t begin, int64_t end, int) {
    Arena& arena = thread_arena();
    arena.reset(Arena::padded<float>(bands.places() * dp) + Arena::padded<float>(bands.copied()));
    float *c = arena.take<float>(bands.places() * dp), *copy = arena.take<float>(bands.copied());
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t image = unit / bands.n_bands, band = unit % bands.n_bands;
      const int64_t first = bands.first(band), last = bands.last(band);
      const View view = view_band(copy, x + image * shape.image(), bands, first, last);
      windows_times(c, dp, dp, view, last - first, bands.wide, shape.kernel_h, shape.kernel_w * shape.channels, w);
      const int64_t high = (last - first) / shape.pool_h, cols = shape.wide();
      with_activation(layer.activation, [&]<Activation A>() {
        for (int64_t row = 0; row < high; ++row) {
          for (int64_t col = 0; col < cols; ++col) {
            const int64_t at = ((image * shape.high() + first / shape.pool_h + row) * cols + col) * d;
            finish<A>(y + at, kept.pre == nullptr ? nullptr : kept.pre + at,
                      kept.argmax == nullptr ? nullptr : kept.argmax + at,
                      c + (row * shape.pool_h * bands.wide + col * shape.pool_w) * dp, bands.wide * dp, layer.b, bands);
          }
        }
      });
    }
  });
}

template <>
void conv2d_backward<Cpu>(float* dx, float* dw, float* db, const float* dy, const float* y,
                          ConvKept<const float, const uint8_t> kept, const float* x, int64_t n, const ConvShape& shape,
                          const ConvWeights& layer, int n_threads) {
  const Bands bands(shape, layer.d);
  const int64_t n_units = n * bands.n_bands, n_slots = count_slots(n_units, bands.least());
  const int64_t turned = dx == nullptr ? 0 : shape.kernel_h * shape.kernel_w * bands.dp * padded(shape.channels);
  SlotSum sums[] = {{dw, shape.taps(), layer.d}, {db, 1, layer.d}};
  const int64_t slot_floats = place_sums(sums, 2);
  Arena& memory = call_arena();
  memory.reset(Arena::padded<float>(turned) + Arena::padded<float>(n_slots * slot_floats));
  float *kernel = memory.take<float>(turned), *slots = memory.take<float>(n_slots * slot_floats);
  if (dx != nullptr) pack_turned(kernel, layer.w, shape, layer.d);
  const Backward pass{dx, dy, y, kept, x, kernel, bands, layer.activation};
  parallel_for(n_slots, 1, n_threads, [&](int64_t slot, int64_t, int) {
    float* own = slots + slot * slot_floats;
    std::fill_n(own, slot_floats, 0.0f);
    for (int64_t u = cut_rows(0, n_units, n_slots, slot); u < cut_rows(0, n_units, n_slots, slot + 1); ++u) {
      check_interrupt();
      pass.band(own + sums[0].offset, own + sums[1].offset, u);
    }
  });
  for (const SlotSum& sum : sums) add_slots(sum, slots, slot_floats, n_slots, n_threads);
}

}  // namespace recsys_fast
