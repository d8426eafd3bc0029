#include "bindings/bind.h"
#include "bindings/buffers.h"
#include "ops/skipgram.h"

namespace recsys_fast::bindings {

void bind_skipgram(py::module_& m) {
  m.def("skipgram_epoch",
        [](const py::object& vectors, const py::object& contexts, const py::object& row_ptr, const py::object& ids,
           const py::object& keep, const py::object& cdf, const py::object& moves, int64_t window, bool reduced,
           int64_t most_pairs, int n_negatives, int n_shared, int64_t tile, int64_t n_tiles, double learning_rate,
           double last_learning_rate, uint64_t seed, uint32_t epoch, int n_threads) {
          const Array<float> vectors_array(vectors, "vectors"), contexts_array(contexts, "contexts");
          const Array<const int64_t> row_ptr_array(row_ptr, "row_ptr");
          const Array<const int32_t> ids_array(ids, "ids");
          const Array<const float> keep_array(keep, "keep");
          const Array<const double> cdf_array(cdf, "cdf");
          const Array<const uint8_t> moves_array(moves, "moves");
          SkipgramProblem p{};
          p.vectors = vectors_array.rows("dimensions of vectors");
          p.contexts = contexts_array.rows("dimensions of contexts");
          check_size("rows of contexts", p.contexts.n, p.vectors.n);
          check_size("columns of contexts", p.contexts.d, p.vectors.d);
          if (keep_array.size() != 0) check_size("length of keep", keep_array.size(), p.vectors.n);
          if (cdf_array.size() != 0) check_size("length of cdf", cdf_array.size(), p.vectors.n);
          if (moves_array.size() != 0) check_size("length of moves", moves_array.size(), p.vectors.n);
          p.row_ptr = row_ptr_array.data();
          p.ids = ids_array.data();
          p.n_rows = row_ptr_array.size() - 1;
          p.keep = keep_array.data_or_null();
          p.cdf = cdf_array.data_or_null();
          p.moves = moves_array.data_or_null();
          p.window = window;
          p.reduced = reduced;
          p.most_pairs = most_pairs;
          p.n_negatives = n_negatives;
          p.n_shared = n_shared;
          p.tile = tile;
          p.n_tiles = n_tiles;
          p.learning_rate = learning_rate;
          p.last_learning_rate = last_learning_rate;
          p.seed = seed;
          p.epoch = epoch;
          const SkipgramTotals totals = without_gil([&] { return skipgram_epoch<Device>(p, n_threads); });
          return py::make_tuple(totals.loss, totals.n_pairs);
        });
}

}  // namespace recsys_fast::bindings
