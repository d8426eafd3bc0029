#include "ops/layer_norm.h"

#include "cpu/block_tiles.h"
#include "cpu/norm_rows.h"
#include "cpu/row_packing.h"

namespace recsys_fast {
template <>
void layer_norm_forward<Cpu>(Rows<const float> x, const float* gamma, const float* beta, float eps, float* y,
                             float* stats, int n_threads) {
  const int64_t d = x.d;
  Arena& arena = call_arena();
  arena.reset(2 * sizeof(float) * padded(d) + 2 * Arena::kAlign);
  const float *scale = padded_vector(arena, gamma, d), *shift = padded_vector(arena, beta, d);
  parallel_for(x.n, 8 * kTileTarget, n_threads, [&](int64_t begin, int64_t end, int) {
    norm_rows({y + begin * d, d}, stats + 2 * begin, {x.row(begin), d}, scale, shift, eps, end - begin, d);
  });
}

template <>
void layer_norm_backward<Cpu>(Rows<const float> x, const float* stats, const float* gamma, const float* dy, float* dx,
                              float* dgamma, float* dbeta, int n_threads) {
  const int64_t d = x.d, n_slots = count_slots(x.n);
  SlotSum sums[] = {{dgamma, 1, d}, {dbeta, 1, d}};
  const int64_t slot_floats = place_sums(sums, 2);
  Arena& arena = call_arena();
  arena.reset(sizeof(float) * (n_slots * slot_floats + padded(d)) + 2 * Arena::kAlign);
  float* slots = arena.take<float>(n_slots * slot_floats);
  const float* scale = padded_vector(arena, gamma, d);
  parallel_for(n_slots, 1, n_threads, [&](int64_t slot, int64_t, int) {
    float *gammas = slots + slot * slot_floats, *betas = gammas + sums[1].offset;
    std::fill_n(gammas, slot_floats, 0.0f);
    const int64_t first = cut_rows(0, x.n, n_slots, slot), last = cut_rows(0, x.n, n_slots, slot + 1);
    norm_rows_back({dx + first * d, d}, {dy + first * d, d}, {x.row(first), d}, stats + 2 * first, scale, gammas, betas,
                   {}, last - first, d);
  });
  for (const SlotSum& sum : sums) add_slots(sum, slots, slot_floats, n_slots, n_threads);
}

}  // namespace recsys_fast
