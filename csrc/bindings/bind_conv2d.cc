#include "bindings/bind.h"
#include "bindings/buffers.h"
#include "bindings/layers.h"
#include "ops/conv2d.h"

namespace recsys_fast::bindings {
namespace {

using Input = Array<const float>;
using Output = Array<float>;

// The sizes of a call, and how many images there are.
struct ConvCall {
  ConvCall(const Input& x, const Input& w, const py::args& args) : s(read(args)), n(x.dim(0)), d(w.dim(1)) {
    check_size("size of an image", x.dim(1), s.image());
    check_size("rows of w", w.dim(0), s.taps());
    // the last window has to begin inside the image, the first one no further before it than the kernel reaches
    const bool fits = s.stride_h >= 1 && s.stride_w >= 1 && s.pool_h >= 1 && s.pool_w >= 1 && s.top >= 0 &&
                      s.left >= 0 && s.top < s.kernel_h && s.left < s.kernel_w && s.out_h >= s.pool_h &&
                      s.out_w >= s.pool_w && (s.out_h - 1) * s.stride_h < s.top + s.height &&
                      (s.out_w - 1) * s.stride_w < s.left + s.width && s.pool_h * s.pool_w <= 256;
    if (!fits) throw ShapeError("rows of results", s.out_h, s.height);
    activation = args[13].cast<int>();
    if (activation < 0 || activation > 5) throw ShapeError("activation", activation, 5);
    n_threads = args[14].cast<int>();
  }
  static ConvShape read(const py::args& args) {
    check_size("number of sizes", static_cast<int64_t>(args.size()), 15);
    int64_t v[13];
    for (size_t i = 0; i < 13; ++i) v[i] = args[i].cast<int64_t>();
    return {v[0], v[1], v[2], v[3], v[4], v[5], v[6], v[7], v[8], v[9], v[10], v[11], v[12]};
  }
  template <class T>
  T* results(const Array<T>& array, const char* name) const {
    check_size(name, array.size(), n * s.high() * s.wide() * d);
    return array.data();
  }
  template <class T>
  T* kept(const Array<T>& array, const char* name, bool needed) const {
    return needed ? results(array, name) : nullptr;
  }
  Activation kind() const { return static_cast<Activation>(activation); }

  ConvShape s;
  int64_t n, d;
  int activation = 0, n_threads = 1;
};

PoolShape pool_shape(const py::args& args) {
  check_size("number of sizes", static_cast<int64_t>(args.size()), 9);
  int64_t v[7];
  for (size_t i = 0; i < 7; ++i) v[i] = args[i].cast<int64_t>();
  const PoolShape s{v[0], v[1], v[2], v[3], v[4], v[5], v[6]};
  if (s.window_h < 1 || s.window_w < 1 || s.stride_h < 1 || s.stride_w < 1 || s.window_h > s.height ||
      s.window_w > s.width) {
    throw ShapeError("height of a window", s.window_h, s.height);
  }
  return s;
}

}  // namespace

void bind_conv2d(py::module_& m) {
  m.def("conv2d_forward", [](const py::object& y, const py::object& pre, const py::object& argmax, const py::object& x,
                             const py::object& w, const py::object& b, const py::args& sizes) {
    const Output out(y, "y"), before(pre, "pre");
    const Array<uint8_t> places(argmax, "argmax");
    const Input in(x, "x"), weights(w, "w"), bias(b, "b");
    const ConvCall call(in, weights, sizes);
    const ConvWeights layer{weights.data(), optional("size of b", bias, call.d), call.d, call.kind()};
    float* into = call.results(out, "size of y");
    const ConvKept<float, uint8_t> kept{call.kept(before, "size of pre", needs_argument(call.kind())),
                                        call.kept(places, "size of argmax", call.s.pooled())};
    without_gil([&] { conv2d_forward<Device>(into, kept, in.data(), call.n, call.s, layer, call.n_threads); });
  });
  m.def("conv2d_backward", [](const py::object& dx, const py::object& dw, const py::object& db, const py::object& dy,
                              const py::object& y, const py::object& pre, const py::object& argmax, const py::object& x,
                              const py::object& w, const py::args& sizes) {
    const Output into(dx, "dx"), dweights(dw, "dw"), dbias(db, "db");
    const Input given(dy, "dy"), out(y, "y"), before(pre, "pre"), in(x, "x"), weights(w, "w");
    const Array<const uint8_t> places(argmax, "argmax");
    const ConvCall call(in, weights, sizes);
    check_size("size of dw", dweights.size(), weights.size());
    const ConvWeights layer{weights.data(), nullptr, call.d, call.kind()};
    const ConvKept<const float, const uint8_t> kept{call.kept(before, "size of pre", needs_argument(call.kind())),
                                                    call.kept(places, "size of argmax", call.s.pooled())};
    float *to = optional("size of dx", into, in.size()), *bias = optional("size of db", dbias, call.d);
    const float *from = call.results(given, "size of dy"), *result = call.results(out, "size of y");
    without_gil([&] {
      conv2d_backward<Device>(to, dweights.data(), bias, from, result, kept, in.data(), call.n, call.s, layer,
                              call.n_threads);
    });
  });
  m.def("pool_forward", [](const py::object& y, const py::object& argmax, const py::object& x, const py::args& sizes) {
    const Output out(y, "y");
    const Array<int32_t> places(argmax, "argmax");
    const Input in(x, "x");
    const PoolShape s = pool_shape(sizes);
    const int64_t n = in.dim(0), size = n * s.high() * s.wide() * s.channels;
    const bool average = sizes[7].cast<int>() != 0;
    const int n_threads = sizes[8].cast<int>();
    check_size("size of x", in.size(), n * s.height * s.width * s.channels);
    check_size("size of y", out.size(), size);
    if (!average) check_size("size of argmax", places.size(), size);
    without_gil(
        [&] { pool_forward<Device>(out.data(), average ? nullptr : places.data(), in.data(), n, s, n_threads); });
  });
  m.def("pool_backward",
        [](const py::object& dx, const py::object& dy, const py::object& argmax, const py::args& sizes) {
          const Output into(dx, "dx");
          const Input given(dy, "dy");
          const Array<const int32_t> places(argmax, "argmax");
          const PoolShape s = pool_shape(sizes);
          const int64_t n = given.dim(0), size = n * s.high() * s.wide() * s.channels;
          const bool average = sizes[7].cast<int>() != 0;
          const int n_threads = sizes[8].cast<int>();
          check_size("size of dx", into.size(), n * s.height * s.width * s.channels);
          check_size("size of dy", given.size(), size);
          if (!average) check_size("size of argmax", places.size(), size);
          without_gil([&] {
            pool_backward<Device>(into.data(), given.data(), average ? nullptr : places.data(), n, s, n_threads);
          });
        });
}

}  // namespace recsys_fast::bindings
