#include "cpu/fm_epoch.h"

namespace recsys_fast {

namespace {

template <int D>
double epoch(const FmModel& model, const FmData& data, const FmTraining& training, int n_threads) {
  const FmShape shape = FmShape::of(model.table.d, model.n_fields);
  const Rows<const float> table{model.table.data, model.table.n, model.table.d};
  const FieldForward<D> forward{table, shape, data.rows, model.fields};
  return FmEpoch<FieldForward<D>>(model, data, training, shape, forward, n_threads).run();
}

template <int D>
void predict(float* out, Rows<const float> table, double bias, const int32_t* fields, int64_t n_fields, Csr rows,
             int n_threads) {
  const FmShape shape = FmShape::of(table.d, n_fields);
  const FieldForward<D> forward{table, shape, rows, fields};
  const auto start = static_cast<float>(bias);
  parallel_for(rows.n_rows, 128, n_threads, [&](int64_t begin, int64_t end, int) {
    Arena& arena = thread_arena();
    const auto n = static_cast<size_t>(n_fields * shape.slot);
    arena.reset(Arena::padded<float>(n));
    float* slots = arena.take<float>(n);
    for (int64_t r = begin; r < end; ++r) out[r] = start + forward(r, slots);
  });
}

}  // namespace

template <>
double ffm_epoch<Cpu>(const FmModel& model, const FmData& data, const FmTraining& training, int n_threads) {
  switch (FmShape::of(model.table.d, model.n_fields).d) {
    case 4:
      return epoch<4>(model, data, training, n_threads);
    case 8:
      return epoch<8>(model, data, training, n_threads);
    default:
      return epoch<0>(model, data, training, n_threads);
  }
}

template <>
void ffm_predict<Cpu>(float* out, Rows<const float> table, double bias, const int32_t* fields, int64_t n_fields,
                      Csr rows, int n_threads) {
  switch (FmShape::of(table.d, n_fields).d) {
    case 4:
      return predict<4>(out, table, bias, fields, n_fields, rows, n_threads);
    case 8:
      return predict<8>(out, table, bias, fields, n_fields, rows, n_threads);
    default:
      return predict<0>(out, table, bias, fields, n_fields, rows, n_threads);
  }
}

}  // namespace recsys_fast
