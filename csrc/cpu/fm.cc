#include "cpu/fm_epoch.h"

namespace recsys_fast {

namespace {

Rows<const float> constant(Rows<float> rows) { return {rows.data, rows.n, rows.d}; }

}  // namespace

template <>
double fm_epoch<Cpu>(const FmModel& model, const FmData& data, const FmTraining& training, int n_threads) {
  const FmShape shape = FmShape::of(model.table.d, 1);
  const PlainForward forward{constant(model.table), shape, data.rows};
  return FmEpoch<PlainForward>(model, data, training, shape, forward, n_threads).run();
}

template <>
void fm_predict<Cpu>(float* out, Rows<const float> table, double bias, Csr rows, int n_threads) {
  const PlainForward forward{table, FmShape::of(table.d, 1), rows};
  const auto start = static_cast<float>(bias);
  parallel_for(rows.n_rows, 256, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) out[r] = start + forward(r, nullptr);
  });
}

}  // namespace recsys_fast
