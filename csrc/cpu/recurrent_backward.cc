#include "cpu/recurrent_backward.h"

namespace recsys_fast {

void add_slot_sums(const RecurrentBackward& pass, const float* sums, int64_t stride, int64_t width, int n_threads) {
  const int64_t d_in = pass.layer.x.d, d = pass.layer.n_hidden, n_slots = pass.plan.n_slots;
  const RecurrentGradients& to = pass.gradients;
  constexpr int64_t kGrain = 16;
  parallel_for(pass.n_rows(), kGrain, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      float* out = r < d_in           ? to.dw_x + r * width
                   : r == d_in        ? to.db_x
                   : r < d_in + 1 + d ? to.dw_h + (r - d_in - 1) * width
                                      : to.db_h;
      if (out == nullptr) continue;
      add_slot_row(out, sums + r * stride, pass.n_rows() * stride, n_slots, width);
    }
  });
}

}  // namespace recsys_fast
