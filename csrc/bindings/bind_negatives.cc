#include "bindings/bind.h"
#include "bindings/buffers.h"
#include "ops/negatives.h"

namespace recsys_fast::bindings {

void bind_negatives(py::module_& m) {
  m.def("sample_negatives", [](const py::object& out, const py::object& users, const py::object& row_ptr,
                               const py::object& col_idx, const py::object& cdf, int64_t n_items, uint64_t seed,
                               uint32_t epoch, int n_threads) {
    const Array<int32_t> out_array(out, "out");
    const Array<const int32_t> users_array(users, "users");
    const Array<const int64_t> row_ptr_array(row_ptr, "row_ptr");
    const Array<const int32_t> col_idx_array(col_idx, "col_idx");
    const Array<const double> cdf_array(cdf, "cdf");
    const auto rows = out_array.rows("dimensions of out");
    check_size("rows of out", rows.n, users_array.size());
    if (cdf_array.size() != 0) check_size("length of cdf", cdf_array.size(), n_items);
    const Csr positives{row_ptr_array.data(), col_idx_array.data(), nullptr, row_ptr_array.size() - 1, n_items};
    without_gil([&] {
      sample_negatives<Device>(rows, users_array.data(), positives, cdf_array.data_or_null(), seed, epoch, n_threads);
    });
  });
  m.def("negatives_draw", [](const py::object& out, const py::object& cdf, int64_t n_items, uint64_t seed,
                             uint32_t epoch, uint64_t first, int n_threads) {
    const Array<int32_t> out_array(out, "out");
    const Array<const double> cdf_array(cdf, "cdf");
    if (cdf_array.size() != 0) check_size("length of cdf", cdf_array.size(), n_items);
    without_gil([&] {
      negatives_draw<Device>(out_array.data(), out_array.size(), cdf_array.data_or_null(), n_items, seed, epoch, first,
                             n_threads);
    });
  });
  m.def("philox_draw", [](const py::object& out, uint64_t seed, uint32_t epoch, uint64_t first_sample, uint32_t k,
                          int n_threads) {
    const Array<uint32_t> words(out, "out");
    without_gil([&] { philox_draw<Device>(words.data(), words.size(), seed, epoch, first_sample, k, n_threads); });
  });
  m.def("philox_rows", [](const py::object& out, const py::object& samples, const py::object& first, uint64_t seed,
                          uint32_t epoch, int n_threads) {
    const Array<uint32_t> words(out, "out");
    const Array<const int64_t> samples_array(samples, "samples");
    const Array<const uint32_t> first_array(first, "first");
    const auto rows = words.rows("dimensions of out");
    check_size("rows of out", rows.n, samples_array.size());
    check_size("length of first", first_array.size(), samples_array.size());
    without_gil([&] { philox_rows<Device>(rows, samples_array.data(), first_array.data(), seed, epoch, n_threads); });
  });
}

}  // namespace recsys_fast::bindings
