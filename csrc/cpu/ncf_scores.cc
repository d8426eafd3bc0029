// Scores of all pairs of users and items. A worker takes a block of items, whose half of the first layer is computed
// once, and passes it with one user after the other through the layers. Layers hold items in columns, so that products
// fill whole vectors however narrow a layer is, and all of it stays in L1.
#include "core/thread_pool.h"
#include "cpu/activations.h"
#include "cpu/block_gemm.h"
#include "cpu/block_tiles.h"
#include "cpu/row_packing.h"
#include "ops/ncf_layers.h"

namespace recsys_fast {
namespace {

constexpr int64_t kItems = 128;  // items of a block; whole vectors

// out (kItems) += sum_k weights[k] rows(k, .)
void add_weighted(float* out, const float* weights, const float* rows, int64_t n) {
  for (int64_t k = 0; k < n; ++k) axpy(out, weights[k], rows + k * kItems, kItems);
}

}  // namespace

template <>
void ncf_scores<Cpu>(Rows<float> out, Rows<const float> users, Rows<const float> items, const NcfNetwork& network,
                     int n_threads) {
  const NcfLayers net = ncf_layers(network);
  const int64_t d = users.d, tower = net.d_tower, n_users = users.n;
  int64_t widest = 1;
  for (int64_t l = 0; l < net.n; ++l) widest = std::max(widest, net.layer[l].d_out);
  const int64_t first = net.n > 0 ? net.layer[0].d_out : 0, fp = padded(first);
  // per user h * p, and b_1 with the user's half of the first layer; w^T of all layers, the first one's lower half
  size_t bytes = Arena::padded<float>(n_users * net.d_product) + Arena::padded<float>(n_users * fp);
  bytes += Arena::padded<float>(tower * fp) + Arena::padded<float>(fp);
  for (int64_t l = 0; l < net.n; ++l) bytes += Arena::padded<float>(net.layer[l].d_out * padded(net.layer[l].d_in));
  Arena& memory = call_arena();
  memory.reset(bytes);
  float *weights = memory.take<float>(n_users * net.d_product), *starts = memory.take<float>(n_users * fp);
  for (int64_t i = 0; i < n_users; ++i) {
    for (int64_t k = 0; k < net.d_product; ++k) weights[i * net.d_product + k] = users.row(i)[k] * net.h[k];
  }
  std::array<const float*, kNcfMaxLayers> back{};
  for (int64_t l = 0; l < net.n; ++l) {
    const NcfLayer& layer = net.layer[l];
    const int64_t skipped = l == 0 ? tower : 0, d_in = layer.d_in - skipped;
    float* w = memory.take<float>(layer.d_out * padded(d_in));
    pack_transpose(w, layer.w + skipped * layer.d_out, layer.d_out, d_in, layer.d_out);
    back[l] = w;
  }
  if (net.n > 0) {
    float *w = memory.take<float>(tower * fp), *b = memory.take<float>(fp);
    pack_rows(w, net.layer[0].w, first, tower, first);
    pack_rows(b, net.layer[0].b, first, 1, first);
    parallel_for(n_users, 64, n_threads, [&](int64_t begin, int64_t end, int) {
      product({users.row(begin) + net.d_product, d, 1, w, fp, starts + begin * fp, fp, end - begin, fp, tower, b});
    });
  }
  const int64_t n_blocks = (items.n + kItems - 1) / kItems;
  parallel_for(n_blocks, 1, n_threads, [&](int64_t block, int64_t, int) {
    Arena& arena = thread_arena();
    arena.reset(Arena::padded<float>(d * kItems) + Arena::padded<float>(kItems) + Arena::padded<float>(first * kItems) +
                2 * Arena::padded<float>(widest * kItems));
    float *q = arena.take<float>(d * kItems), *score = arena.take<float>(kItems);
    float* half = arena.take<float>(first * kItems);
    float* z[2] = {arena.take<float>(widest * kItems), arena.take<float>(widest * kItems)};
    const int64_t begin = block * kItems, n = std::min(kItems, items.n - begin);
    for (int64_t k = 0; k < d; ++k) {
      for (int64_t j = 0; j < n; ++j) q[k * kItems + j] = items.row(begin + j)[k];
      std::fill(q + k * kItems + n, q + (k + 1) * kItems, 0.0f);
    }
    const float* lower = q + net.d_product * kItems;
    if (net.n > 0) product({back[0], padded(tower), 1, lower, kItems, half, kItems, first, kItems, tower});
    for (int64_t i = 0; i < n_users; ++i) {
      if (i % 64 == 63) check_interrupt();
      std::fill_n(score, kItems, *net.c);
      add_weighted(score, weights + i * net.d_product, q, net.d_product);
      with_activation(network.activation, [&]<Activation A>() {
        for (int64_t k = 0; k < first; ++k) {
          const float start = starts[i * fp + k];
          for (int64_t j = 0; j < kItems; j += kLanes) {
            store(z[0] + k * kItems + j, activate<A>(load(half + k * kItems + j) + start));
          }
        }
        for (int64_t l = 1; l < net.n; ++l) {
          const NcfLayer& layer = net.layer[l];
          float *from = z[(l - 1) % 2], *to = z[l % 2];
          for (int64_t k = 0; k < layer.d_out; ++k) std::fill_n(to + k * kItems, kItems, layer.b[k]);
          product({back[l], padded(layer.d_in), 1, from, kItems, to, kItems, layer.d_out, kItems, layer.d_in, nullptr,
                   true});
          for (int64_t k = 0; k < layer.d_out * kItems; k += kLanes) store(to + k, activate<A>(load(to + k)));
        }
      });
      if (net.n > 0) add_weighted(score, net.h_last, z[(net.n - 1) % 2], net.d_last);
      std::copy_n(score, n, out.row(i) + begin);
    }
  });
}

}  // namespace recsys_fast
