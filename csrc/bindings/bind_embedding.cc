#include "bindings/bind.h"
#include "bindings/layers.h"
#include "ops/embedding.h"

namespace recsys_fast::bindings {
namespace {

// Where sequences begin; with positions none may be longer than they are many, or its rows would have places outside
// (what lies on a device was looked at before it went there: see check_row_ptr).
Places places_of(const Array<const int64_t>& row_ptr, int64_t n_rows, int64_t n_positions, bool from_end) {
  check_row_ptr(row_ptr, n_rows);
  const Places places{row_ptr.data(), row_ptr.size() - 1, from_end};
  if constexpr (kOnCpu) {
    for (int64_t s = 0; n_positions != 0 && s < places.n_sequences; ++s) {
      const int64_t length = places.row_ptr[s + 1] - places.row_ptr[s];
      if (length > n_positions) throw ShapeError("length of a sequence", length, n_positions);
    }
  }
  return places;
}

void run_embedding_forward(const py::object& out, const py::object& table, const py::object& positions,
                           const py::object& ids, const py::object& row_ptr, float scale, bool from_end, float rate,
                           uint64_t seed, uint32_t step, uint32_t site, int n_threads) {
  const Array<float> out_array(out, "out");
  const Array<const float> table_array(table, "table"), positions_array(positions, "positions");
  const Array<const int32_t> id_array(ids, "ids");
  const Array<const int64_t> row_ptr_array(row_ptr, "row_ptr");
  const auto rows = out_array.rows("dimensions of out");
  const auto table_rows = table_array.rows("dimensions of table");
  const auto position_rows = positions_array.rows("dimensions of positions");
  check_size("columns of table", table_rows.d, rows.d);
  if (position_rows.n != 0) check_size("columns of positions", position_rows.d, rows.d);
  check_size("number of ids", id_array.size(), rows.n);
  const Places places = places_of(row_ptr_array, rows.n, position_rows.n, from_end);
  without_gil([&] {
    embedding_forward<Device>(rows, table_rows, position_rows, id_array.data(), places, scale, {rate, seed, step, site},
                              n_threads);
  });
}

void run_embedding_backward(const py::object& dout, const py::object& dpositions, const py::object& row_ptr,
                            float scale, bool from_end, float rate, uint64_t seed, uint32_t step, uint32_t site,
                            int n_threads) {
  const Array<float> dout_array(dout, "dout"), positions_array(dpositions, "dpositions");
  const Array<const int64_t> row_ptr_array(row_ptr, "row_ptr");
  const auto rows = dout_array.rows("dimensions of dout");
  const auto position_rows = positions_array.rows("dimensions of dpositions");
  if (position_rows.n != 0) check_size("columns of dpositions", position_rows.d, rows.d);
  const Places places = places_of(row_ptr_array, rows.n, position_rows.n, from_end);
  without_gil(
      [&] { embedding_backward<Device>(rows, position_rows, places, scale, {rate, seed, step, site}, n_threads); });
}

}  // namespace

void bind_embedding(py::module_& m) {
  m.def("embedding_forward", &run_embedding_forward);
  m.def("embedding_backward", &run_embedding_backward);
  m.def("dropout_apply",
        [](const py::object& x, float rate, uint64_t seed, uint32_t step, uint32_t site, int n_threads) {
          const Array<float> array(x, "x");
          const auto rows = array.rows("dimensions of x");
          without_gil([&] { dropout_apply<Device>(rows, {rate, seed, step, site}, n_threads); });
        });
}

}  // namespace recsys_fast::bindings
