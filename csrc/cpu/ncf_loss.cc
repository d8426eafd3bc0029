// A training step of a network of pairs up to its gradients, tile by tile through all layers: the tower is so narrow
// that a tile with all it computes stays in L1, while layer by layer calls and copies would outweigh the arithmetic.
// The first layer's users' half is computed once per user of the batch, not once per pair.
#include <vector>

#include "core/dropout.h"
#include "core/thread_pool.h"
#include "cpu/activations.h"
#include "cpu/block_gemm.h"
#include "cpu/block_tiles.h"
#include "cpu/row_packing.h"
#include "cpu/row_vectors.h"
#include "ops/ncf_layers.h"

namespace recsys_fast {
namespace {

constexpr int64_t kTile = 96;   // pairs of a tile
constexpr int64_t kAhead = 16;  // pairs whose rows are asked for before they are gathered

// Weights for the way back, and where each gradient lies in a slot: of layer l at sums[2 l] and sums[2 l + 1], then h
// of p * q, h of z_L, and c.
struct Plan {
  NcfLayers net;
  std::array<const float*, kNcfMaxLayers> w, b, back;  // w (d_in, padded), b (padded), w^T (d_out, padded)
  const float *back_users, *back_items;                // of the halves of the first layer
  const float *h, *h_last;                             // padded
  std::array<SlotSum, 2 * kNcfMaxLayers + 3> sums;
  int64_t n_sums, slot_floats;
  Activation activation;
  DropoutMask dropout;

  Dropout masks(int64_t l) const {
    DropoutMask own = dropout;
    own.site += static_cast<uint32_t>(l);
    return Dropout(own);
  }
};

size_t plan_bytes(const NcfLayers& net) {
  size_t bytes = Arena::padded<float>(padded(net.d_product)) + Arena::padded<float>(padded(net.d_last));
  for (int64_t l = 0; l < net.n; ++l) {
    const NcfLayer& layer = net.layer[l];
    bytes += Arena::padded<float>(layer.d_in * padded(layer.d_out)) + Arena::padded<float>(padded(layer.d_out)) +
             2 * Arena::padded<float>(layer.d_out * padded(layer.d_in));
  }
  return bytes;
}

const float* packed_transpose(Arena& arena, const float* w, int64_t d_out, int64_t n_rows) {
  float* out = arena.take<float>(d_out * padded(n_rows));
  pack_transpose(out, w, d_out, n_rows, d_out);
  return out;
}

Plan plan_of(const NcfNetwork& network, float* dparams, Arena& arena) {
  Plan plan{};
  plan.net = ncf_layers(network);
  plan.activation = network.activation;
  plan.dropout = network.dropout;
  const NcfLayers& net = plan.net;
  float* gradient = dparams;
  const auto add_sum = [&](int64_t n, int64_t m) {
    plan.sums[plan.n_sums++] = {m > 0 ? gradient : nullptr, n, m};
    gradient += n * m;
  };
  for (int64_t l = 0; l < net.n; ++l) {
    const NcfLayer& layer = net.layer[l];
    float* w = arena.take<float>(layer.d_in * padded(layer.d_out));
    pack_rows(w, layer.w, layer.d_out, layer.d_in, layer.d_out);
    plan.w[l] = w;
    plan.b[l] = padded_vector(arena, layer.b, layer.d_out);
    if (l > 0) plan.back[l] = packed_transpose(arena, layer.w, layer.d_out, layer.d_in);
    add_sum(layer.d_in, layer.d_out);
    add_sum(1, layer.d_out);
  }
  if (net.n > 0) {
    const int64_t d_out = net.layer[0].d_out;
    plan.back_users = packed_transpose(arena, net.layer[0].w, d_out, net.d_tower);
    plan.back_items = packed_transpose(arena, net.layer[0].w + net.d_tower * d_out, d_out, net.d_tower);
  }
  plan.h = padded_vector(arena, net.h, net.d_product);
  plan.h_last = padded_vector(arena, net.h_last, net.d_last);
  add_sum(1, net.d_product);
  add_sum(1, net.d_last);
  add_sum(1, 1);
  plan.slot_floats = place_sums(plan.sums.data(), plan.n_sums);
  return plan;
}

struct Batch {
  Rows<float> dusers, ditems;
  Rows<const float> users, items;
  const int32_t* user_ids;
  Rows<const int32_t> item_ids;
  float scale;
};

// What a tile computes; a worker's own.
struct Tile {
  float *p, *q, *first, *dfirst, *back, *mask;  // rows of users and items; the users' half of the first layer
  float *score, *label, *weight;                // per pair, whole vectors
  std::array<float*, kNcfMaxLayers> z, dz;

  static size_t bytes(const NcfLayers& net, int64_t d, int64_t n_users, int64_t n) {
    size_t sum = Arena::padded<float>(n_users * padded(d)) + Arena::padded<float>(n * padded(d)) +
                 3 * Arena::padded<float>(padded(n)) + Arena::padded<float>(n * padded(net.d_tower));
    int64_t widest = 0;
    for (int64_t l = 0; l < net.n; ++l) {
      const int64_t dp = padded(net.layer[l].d_out);
      widest = std::max(widest, dp);
      sum += 2 * Arena::padded<float>(n * dp);
    }
    return sum + Arena::padded<float>(widest) + 2 * Arena::padded<float>(n_users * widest);
  }

  Tile(Arena& arena, const NcfLayers& net, int64_t d, int64_t n_users, int64_t n) {
    p = arena.take<float>(n_users * padded(d));
    q = arena.take<float>(n * padded(d));
    for (float** v : {&score, &label, &weight}) *v = arena.take<float>(padded(n));
    back = arena.take<float>(n * padded(net.d_tower));
    int64_t widest = 0;
    for (int64_t l = 0; l < net.n; ++l) {
      const int64_t dp = padded(net.layer[l].d_out);
      widest = std::max(widest, dp);
      z[l] = arena.take<float>(n * dp);
      dz[l] = arena.take<float>(n * dp);
    }
    mask = arena.take<float>(widest);
    first = arena.take<float>(n_users * widest);
    dfirst = arena.take<float>(n_users * widest);
  }
};

// Rows of the tables, and per pair whether it is wanted and whether it counts; an absent item has a row of zeros.
void gather(const Tile& t, const Batch& batch, int64_t begin, int64_t end) {
  const int64_t d = batch.users.d, dp = padded(d), w = batch.item_ids.d, n = (end - begin) * w;
  const int32_t* ids = batch.item_ids.row(begin);
  for (int64_t i = begin; i < end; ++i) prefetch(batch.users.row(batch.user_ids[i]), 4 * d);
  for (int64_t k = 0; k < padded(n); ++k) t.label[k] = t.weight[k] = 0.0f;
  for (int64_t k = 0; k < n; ++k) {
    if (k + kAhead < n && ids[k + kAhead] >= 0) prefetch(batch.items.row(ids[k + kAhead]), 4 * d);
    t.weight[k] = ids[k] >= 0 ? 1.0f : 0.0f;
    t.label[k] = k % w == 0 ? 1.0f : 0.0f;
    if (ids[k] >= 0) {
      pack_rows(t.q + k * dp, batch.items.row(ids[k]), d, 1, d);
    } else {
      std::fill_n(t.q + k * dp, dp, 0.0f);
    }
  }
  for (int64_t i = begin; i < end; ++i) pack_rows(t.p + (i - begin) * dp, batch.users.row(batch.user_ids[i]), d, 1, d);
}

// z_l of all layers; `row` is the number of the tile's first pair in the batch.
void forward(const Plan& plan, const Tile& t, int64_t dp, int64_t n_users, int64_t w, int64_t row) {
  const NcfLayers& net = plan.net;
  const int64_t n = n_users * w, tower = net.d_tower;
  for (int64_t l = 0; l < net.n; ++l) {
    const int64_t d_out = padded(net.layer[l].d_out);
    if (l == 0) {
      const float* items_half = plan.w[0] + tower * d_out;
      product({t.p + net.d_product, dp, 1, plan.w[0], d_out, t.first, d_out, n_users, d_out, tower, plan.b[0]});
      for (int64_t k = 0; k < n; ++k) std::copy_n(t.first + k / w * d_out, d_out, t.z[0] + k * d_out);
      product({t.q + net.d_product, dp, 1, items_half, d_out, t.z[0], d_out, n, d_out, tower, nullptr, true});
    } else {
      const int64_t d_in = net.layer[l].d_in;
      product({t.z[l - 1], padded(d_in), 1, plan.w[l], d_out, t.z[l], d_out, n, d_out, d_in, plan.b[l]});
    }
    with_activation(plan.activation, [&]<Activation A>() {
      for (int64_t k = 0; k < n * d_out; k += kLanes) store(t.z[l] + k, activate<A>(load(t.z[l] + k)));
    });
    const Dropout drop = plan.masks(l);
    for (int64_t k = 0; k < n && drop.active(); ++k) dropout_row(drop, t.z[l] + k * d_out, row + k, net.layer[l].d_out);
  }
}

// score becomes the gradient of scale times the loss; returns the loss.
double score_pairs(const Plan& plan, const Tile& t, int64_t dp, int64_t n_users, int64_t w, float scale) {
  const NcfLayers& net = plan.net;
  const int64_t n = n_users * w, d_last = padded(net.d_last);
  std::fill_n(t.score, padded(n), 0.0f);
  for (int64_t k = 0; k < n; ++k) {
    Vec sum{};
    const float *p = t.p + k / w * dp, *q = t.q + k * dp;
    for (int64_t c = 0; c < net.d_product; c += kLanes) sum += load(p + c) * load(q + c) * load(plan.h + c);
    for (int64_t c = 0; c < d_last; c += kLanes) sum += load(t.z[net.n - 1] + k * d_last + c) * load(plan.h_last + c);
    t.score[k] = reduce_add(sum) + *net.c;
  }
  Vec loss{};
  for (int64_t k = 0; k < n; k += kLanes) {
    const Vec s = load(t.score + k), label = load(t.label + k), weight = load(t.weight + k);
    loss += softplus(s - 2.0f * label * s) * weight;
    store(t.score + k, (sigmoid(s) - label) * weight * scale);
  }
  return reduce_add(loss);
}

// dz = its product with the mask and the slope, given z of the layer.
void before_activation(const Plan& plan, const Tile& t, int64_t l, int64_t n, int64_t row) {
  const int64_t d = plan.net.layer[l].d_out, dp = padded(d);
  const Dropout drop = plan.masks(l);
  const float undo = 1.0f / drop.scale;  // where an element was kept, z undo is the activation
  with_activation(plan.activation, [&]<Activation A>() {
    std::fill_n(t.mask, dp, 1.0f);
    for (int64_t k = 0; k < n; ++k) {
      if (drop.active()) {
        std::fill_n(t.mask, dp, 1.0f);
        dropout_row(drop, t.mask, row + k, d);
      }
      float *g = t.dz[l] + k * dp, *z = t.z[l] + k * dp;
      for (int64_t c = 0; c < dp; c += kLanes) {
        const Vec after = load(z + c) * undo;
        store(g + c, load(g + c) * load(t.mask + c) * activation_slope<A>(after, after));
      }
    }
  });
}

// The gradients of a tile; those of parameters are added to the slot.
void backward(const Plan& plan, const Tile& t, const Batch& batch, float* slot, int64_t begin, int64_t end) {
  const NcfLayers& net = plan.net;
  const int64_t d = batch.users.d, dp = padded(d), w = batch.item_ids.d, n_users = end - begin, n = n_users * w;
  const int64_t row = begin * w, d_last = padded(net.d_last), tower = net.d_tower;
  const auto place = [&](int64_t k) { return slot + plan.sums[k].offset; };
  float *dh = place(2 * net.n), *dh_last = place(2 * net.n + 1), *dc = place(2 * net.n + 2);
  for (int64_t i = 0; i < n_users; ++i) {
    const float* p = t.p + i * dp;
    float* dp_row = batch.dusers.row(begin + i);
    for (int64_t c = 0; c < net.d_product; c += kLanes) {
      Vec du{};
      const Vec h = load(plan.h + c), user = load(p + c);
      for (int64_t k = i * w; k < (i + 1) * w; ++k) {
        const Vec item = load(t.q + k * dp + c);
        const float g = t.score[k];
        du += item * h * g;
        store(dh + c, load(dh + c) + user * item * g);
        store_up_to(batch.ditems.row(row + k) + c, user * h * g, net.d_product - c);
      }
      store_up_to(dp_row + c, du, net.d_product - c);
    }
  }
  for (int64_t k = 0; k < n; ++k) {
    const float g = t.score[k];
    dc[0] += g;
    for (int64_t c = 0; c < d_last; c += kLanes) {
      store(dh_last + c, load(dh_last + c) + load(t.z[net.n - 1] + k * d_last + c) * g);
      store(t.dz[net.n - 1] + k * d_last + c, load(plan.h_last + c) * g);
    }
  }
  for (int64_t l = net.n - 1; l >= 0; --l) {
    const int64_t d_in = net.layer[l].d_in, d_out = net.layer[l].d_out, op = padded(d_out), ip = padded(d_in);
    before_activation(plan, t, l, n, row);
    float *dw = place(2 * l), *g = t.dz[l];
    add_column_sums(place(2 * l + 1), g, op, n, op);
    if (l > 0) {
      product({t.z[l - 1], 1, ip, g, op, dw, op, d_in, op, n, nullptr, true});
      product({g, op, 1, plan.back[l], ip, t.dz[l - 1], ip, n, ip, d_out});
      continue;
    }
    const int64_t tp = padded(tower);
    product({t.q + net.d_product, 1, dp, g, op, dw + tower * op, op, tower, op, n, nullptr, true});
    product({g, op, 1, plan.back_items, tp, t.back, tp, n, tp, d_out});
    copy_rows(batch.ditems.row(row) + net.d_product, d, t.back, tp, n, tower);
    for (int64_t i = 0; i < n_users; ++i) {
      std::fill_n(t.dfirst + i * op, op, 0.0f);
      add_column_sums(t.dfirst + i * op, g + i * w * op, op, w, op);
    }
    product({t.p + net.d_product, 1, dp, t.dfirst, op, dw, op, tower, op, n_users, nullptr, true});
    product({t.dfirst, op, 1, plan.back_users, tp, t.back, tp, n_users, tp, d_out});
    copy_rows(batch.dusers.row(begin) + net.d_product, d, t.back, tp, n_users, tower);
  }
}

}  // namespace

template <>
double ncf_loss<Cpu>(Rows<float> dusers, Rows<float> ditems, float* dparams, Rows<const float> users,
                     Rows<const float> items, const int32_t* user_ids, Rows<const int32_t> item_ids,
                     const NcfNetwork& network, float scale, int n_threads) {
  const Batch batch{dusers, ditems, users, items, user_ids, item_ids, scale};
  const NcfLayers net = ncf_layers(network);
  const int64_t d = users.d, w = item_ids.d, tile_users = std::max<int64_t>(1, kTile / std::max<int64_t>(1, w));
  const int64_t n_tiles = (item_ids.n + tile_users - 1) / tile_users, n_slots = most_slots(n_tiles, 1);
  // slots are padded widths, at least the parameters themselves
  int64_t slot_floats = padded(net.d_product) + padded(net.d_last) + kLanes;
  for (int64_t l = 0; l < net.n; ++l) slot_floats += (net.layer[l].d_in + 1) * padded(net.layer[l].d_out);
  Arena& memory = call_arena();
  memory.reset(plan_bytes(net) + Arena::padded<float>(n_slots * slot_floats));
  const Plan plan = plan_of(network, dparams, memory);
  float* slots = memory.take<float>(n_slots * plan.slot_floats);
  std::vector<double> losses(static_cast<size_t>(n_slots), 0.0);
  parallel_for(n_slots, 1, n_threads, [&](int64_t slot, int64_t, int) {
    Arena& arena = thread_arena();
    arena.reset(Tile::bytes(net, d, tile_users, tile_users * w));
    const Tile tile(arena, net, d, tile_users, tile_users * w);
    float* sums = slots + slot * plan.slot_floats;
    std::fill_n(sums, plan.slot_floats, 0.0f);
    const int64_t last = cut_rows(0, n_tiles, n_slots, slot + 1);
    for (int64_t k = cut_rows(0, n_tiles, n_slots, slot); k < last; ++k) {
      const int64_t begin = k * tile_users, end = std::min(item_ids.n, begin + tile_users);
      gather(tile, batch, begin, end);
      forward(plan, tile, padded(d), end - begin, w, begin * w);
      losses[slot] += score_pairs(plan, tile, padded(d), end - begin, w, scale);
      backward(plan, tile, batch, sums, begin, end);
    }
  });
  double loss = 0.0;
  for (const double part : losses) loss += part;
  for (int64_t k = 0; k < plan.n_sums; ++k) add_slots(plan.sums[k], slots, plan.slot_floats, n_slots, 1);
  return loss;
}

}  // namespace recsys_fast
