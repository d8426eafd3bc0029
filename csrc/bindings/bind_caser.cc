#include "bindings/bind.h"
#include "bindings/layers.h"
#include "ops/caser.h"

namespace recsys_fast::bindings {
namespace {

CaserSizes sizes_of(const Rows<const float>& x, int64_t window, int64_t n_horizontal, int64_t n_vertical) {
  if (window < 1) throw ShapeError("window", window, 1);
  check_size("rows of x, in whole windows", x.n, x.n / window * window);
  return {x.n / window, window, x.d, n_horizontal, n_vertical};
}

int64_t horizontal_size(const CaserSizes& s) { return s.window * (s.window + 1) / 2 * s.d * s.n_horizontal; }

}  // namespace

void bind_caser(py::module_& m) {
  m.def("caser_forward", [](const py::object& z, const py::object& argmax, const py::object& x, const py::object& w_h,
                            const py::object& b_h, const py::object& w_v, const py::object& b_v, int64_t window,
                            int64_t n_horizontal, int64_t n_vertical, float dropout, uint64_t seed, uint32_t step,
                            uint32_t site, int n_threads) {
    const Array<float> out(z, "z");
    const Array<int32_t> places(argmax, "argmax");
    const Array<const float> in(x, "x"), wh(w_h, "w_h"), bh(b_h, "b_h"), wv(w_v, "w_v"), bv(b_v, "b_v");
    const CaserSizes s = sizes_of(in.rows("dimensions of x"), window, n_horizontal, n_vertical);
    check_size("size of z", out.size(), s.n * s.width());
    check_size("size of argmax", places.size(), s.n * s.n_maxima());
    check_size("size of w_h", wh.size(), horizontal_size(s));
    check_size("size of b_h", bh.size(), s.n_maxima());
    check_size("size of w_v", wv.size(), s.window * s.n_vertical);
    const CaserWeights weights{wh.data(), bh.data(), wv.data(), optional("size of b_v", bv, s.n_vertical)};
    without_gil([&] {
      caser_forward<Device>(out.data(), places.data(), in.data(), weights, s, {dropout, seed, step, site}, n_threads);
    });
  });
  m.def("caser_backward", [](const py::object& dx, const py::object& dw_h, const py::object& db_h,
                             const py::object& dw_v, const py::object& db_v, const py::object& dz,
                             const py::object& argmax, const py::object& x, const py::object& w_h,
                             const py::object& w_v, int64_t window, int64_t n_horizontal, int64_t n_vertical,
                             float dropout, uint64_t seed, uint32_t step, uint32_t site, int n_threads) {
    const Array<float> out(dx, "dx"), dwh(dw_h, "dw_h"), dbh(db_h, "db_h"), dwv(dw_v, "dw_v"), dbv(db_v, "db_v");
    const Array<const int32_t> places(argmax, "argmax");
    const Array<const float> given(dz, "dz"), in(x, "x"), wh(w_h, "w_h"), wv(w_v, "w_v");
    const CaserSizes s = sizes_of(in.rows("dimensions of x"), window, n_horizontal, n_vertical);
    check_size("size of dx", out.size(), in.size());
    check_size("size of dw_h", dwh.size(), horizontal_size(s));
    check_size("size of db_h", dbh.size(), s.n_maxima());
    check_size("size of dw_v", dwv.size(), s.window * s.n_vertical);
    check_size("size of dz", given.size(), s.n * s.width());
    check_size("size of argmax", places.size(), s.n * s.n_maxima());
    check_size("size of w_h", wh.size(), dwh.size());
    check_size("size of w_v", wv.size(), dwv.size());
    const CaserGradients gradients{dwh.data(), dbh.data(), dwv.data(), optional("size of db_v", dbv, s.n_vertical)};
    const CaserWeights weights{wh.data(), nullptr, wv.data(), nullptr};
    without_gil([&] {
      caser_backward<Device>(out.data(), gradients, given.data(), places.data(), in.data(), weights, s,
                             {dropout, seed, step, site}, n_threads);
    });
  });
}

}  // namespace recsys_fast::bindings
