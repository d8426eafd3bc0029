#include "bindings/bind.h"
#include "bindings/layers.h"
#include "ops/gaussian.h"

namespace recsys_fast::bindings {

void bind_gaussian(py::module_& m) {
  m.def("gaussian_forward", [](const py::object& z, const py::object& stats, bool noise, uint64_t seed, uint32_t step,
                               uint32_t site, int n_threads) {
    const Array<float> out(z, "z");
    const Array<const float> given(stats, "stats");
    const auto rows = out.rows("dimensions of z");
    check_size("size of stats", given.size(), 2 * out.size());
    const NoiseKey key{seed, step, site};
    return without_gil([&] { return gaussian_forward<Device>(rows, given.data(), noise ? &key : nullptr, n_threads); });
  });
  m.def("gaussian_backward",
        [](const py::object& dstats, const py::object& dz, const py::object& stats, double kl_weight, bool noise,
           uint64_t seed, uint32_t step, uint32_t site, int n_threads) {
          const Array<float> out(dstats, "dstats");
          const Array<const float> upper(dz, "dz"), given(stats, "stats");
          const auto rows = upper.rows("dimensions of dz");
          check_size("size of stats", given.size(), 2 * upper.size());
          check_size("size of dstats", out.size(), given.size());
          const NoiseKey key{seed, step, site};
          without_gil([&] {
            gaussian_backward<Device>(out.data(), rows, given.data(), static_cast<float>(kl_weight),
                                      noise ? &key : nullptr, n_threads);
          });
        });
}

}  // namespace recsys_fast::bindings
