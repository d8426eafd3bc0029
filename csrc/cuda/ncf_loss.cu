// A training step of a network of pairs up to its gradients, layer by layer over all pairs of the batch: products of
// tiles, whose left rows are gathered from the tables where they are the first layer's. The first layer's users' half
// is multiplied once per user of the batch, not once per pair. No kernel adds floats atomically.
#include "cuda/column_sums.h"
#include "cuda/gathered_rows.h"
#include "cuda/slope_rows.h"
#include "cuda/sum.h"
#include "ops/ncf_layers.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256, kPairsPerBlock = kThreads / kWarpSize;

// The pairs of a batch: pair k is user_ids[k / width] with item_ids[k]; fewer than 2^31.
struct Pairs {
  Rows<const float> users, items;
  const int32_t *user_ids, *item_ids;
  int64_t n_users, width, n;

  __device__ uint32_t user_place(int64_t pair) const {
    return static_cast<uint32_t>(pair) / static_cast<uint32_t>(width);
  }
  __device__ bool wanted(int64_t pair) const { return static_cast<uint32_t>(pair) % static_cast<uint32_t>(width) == 0; }
  __device__ const float* user(int64_t pair) const { return users.row(user_ids[user_place(pair)]); }
};

// What a score is a product with, and the numbers of a pair that it is made of.
struct Head {
  const float *h, *h_last, *c;
  int64_t d_product, d_last;
};

// z = D(activation(product + b + first of the pair's user)).
struct NcfLayerOut {
  float* z;
  const float *b, *first;  // each may be null
  int64_t width, d;
  Activation activation;
  Dropout drop;
  __device__ void operator()(int64_t row, int64_t col, float value) const {
    if (b != nullptr) value += b[col];
    if (first != nullptr) {
      value += first[static_cast<uint32_t>(row) / static_cast<uint32_t>(width) * d + col];
    }
    value = activate(activation, value);
    if (drop.active()) value *= dropout_at(drop, row, col, dropout_groups(d));
    z[row * d + col] = value;
  }
};

// losses, g (n) of the pairs: the loss, and its derivative by the score, times scale; columns of p * q of the items'
// gradients. A warp per pair.
__global__ void __launch_bounds__(kThreads) ncf_score_kernel(double* losses, float* g, Rows<float> ditems, Pairs pairs,
                                                             Head head, const float* z, float scale) {
  const int64_t pair = int64_t{blockIdx.x} * kPairsPerBlock + threadIdx.x / kWarpSize;
  if (pair >= pairs.n) return;
  const int lane = Warp::lane();
  const int32_t item = pairs.item_ids[pair];
  const float *p = pairs.user(pair), *q = item >= 0 ? pairs.items.row(item) : p;
  float sum = 0.0f;
  for (int64_t c = lane; c < head.d_product; c += kWarpSize) sum += p[c] * q[c] * head.h[c];
  for (int64_t c = lane; c < head.d_last; c += kWarpSize) sum += z[pair * head.d_last + c] * head.h_last[c];
  const float score = Warp::sum(sum) + head.c[0];
  const bool wanted = pairs.wanted(pair);
  const Sigmoids sigmoids(score);
  const float slope = item < 0 ? 0.0f : scale * (wanted ? -sigmoids.down : sigmoids.up);
  if (lane == 0) {
    losses[pair] = item < 0 ? 0.0 : static_cast<double>(softplus(wanted ? -score : score));
    g[pair] = slope;
  }
  for (int64_t c = lane; c < head.d_product; c += kWarpSize) ditems.row(pair)[c] = slope * head.h[c] * p[c];
}

// Columns of p * q of the users' gradients, a warp per user of the batch.
__global__ void __launch_bounds__(kThreads)
    ncf_users_kernel(Rows<float> dusers, Pairs pairs, Head head, const float* g) {
  const int64_t i = int64_t{blockIdx.x} * kPairsPerBlock + threadIdx.x / kWarpSize, first = i * pairs.width;
  if (i >= pairs.n_users) return;
  for (int64_t c = Warp::lane(); c < head.d_product; c += kWarpSize) {
    float sum = 0.0f;
    for (int64_t k = first; k < first + pairs.width; ++k) {
      const int32_t item = pairs.item_ids[k];
      if (item >= 0) sum += g[k] * pairs.items.row(item)[c];
    }
    dusers.row(i)[c] = sum * head.h[c];
  }
}

// The terms of the gradients of h, first those of p * q with c behind them, second those of z_L.
struct HeadTerms {
  Pairs pairs;
  Head head;
  const float *g, *z;
  __device__ float2 operator()(int64_t pair, int64_t col) const {
    const float slope = g[pair];
    const int32_t item = pairs.item_ids[pair];
    float first = col == head.d_product ? slope : 0.0f;
    if (col < head.d_product && item >= 0) first = slope * pairs.user(pair)[col] * pairs.items.row(item)[col];
    return make_float2(first, col < head.d_last ? slope * z[pair * head.d_last + col] : 0.0f);
  }
};

// dz (n, d), or g of the row times h where that is given, becomes the gradient before mask and activation.
__global__ void __launch_bounds__(kThreads)
    ncf_slope_kernel(float* dz, const float* z, const float* g, const float* h, int64_t size, int64_t d,
                     Activation activation, Dropout drop) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= size) return;
  const int64_t row = at / d, col = at % d;
  const float given = h != nullptr ? g[row] * h[col] : dz[at];
  dz[at] = given * slope_at(activation, z[at], 0.0f, drop, row, col, d);
}

// sums (n_users, d) = sums over each user's pairs.
__global__ void __launch_bounds__(kThreads)
    ncf_user_sums_kernel(float* sums, const float* dz, int64_t n_users, int64_t width, int64_t d) {
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at >= n_users * d) return;
  const float* from = dz + at / d * width * d + at % d;
  float sum = 0.0f;
  for (int64_t k = 0; k < width; ++k) sum += from[k * d];
  sums[at] = sum;
}

// The terms of plain sums over rows.
struct RowTerms {
  const float* x;
  int64_t d;
  __device__ float2 operator()(int64_t row, int64_t col) const { return make_float2(x[row * d + col], 0.0f); }
};

// One call: z of every layer, then the way back.
class Step {
 public:
  Step(const Pairs& pairs, const NcfNetwork& network)
      : pairs_(pairs),
        network_(network),
        net_(ncf_layers(network)),
        head_{net_.h, net_.h_last, net_.c, net_.d_product, net_.d_last} {
    for (int64_t l = 0; l < net_.n; ++l) z_[l] = DeviceBuffer<float>(pairs.n * net_.layer[l].d_out, stream_);
  }

  void forward() {
    for (int64_t l = 0; l < net_.n; ++l) {
      const NcfLayer& layer = net_.layer[l];
      const int64_t d_out = layer.d_out, tower = net_.d_tower, d = pairs_.items.d;
      NcfLayerOut out{z_[l].data(), layer.b, nullptr, pairs_.width, d_out, network_.activation, masks(l)};
      if (l > 0) {
        gemm(AlongDepth{z_[l - 1].data(), layer.d_in}, AcrossDepth{layer.w, d_out}, out, pairs_.n, d_out, layer.d_in,
             stream_);
        continue;
      }
      DeviceBuffer<float> first(pairs_.n_users * d_out, stream_);
      gemm(GatheredRows<>{users(), pairs_.user_ids, d}, AcrossDepth{layer.w, d_out},
           BiasOut{first.data(), d_out, layer.b}, pairs_.n_users, d_out, tower, stream_);
      out.b = nullptr;
      out.first = first.data();
      gemm(GatheredRows<>{items(), pairs_.item_ids, d}, AcrossDepth{layer.w + tower * d_out, d_out}, out, pairs_.n,
           d_out, tower, stream_);
    }
  }

  // Returns the loss; gradients of rows are complete but for the tower's columns, and g for backward_layers.
  double score(Rows<float> dusers, Rows<float> ditems, float* dhead, float* g, float scale) {
    DeviceBuffer<double> losses(pairs_.n, stream_);
    if (pairs_.n > 0) {
      launch(ncf_score_kernel, dim3(blocks_for(pairs_.n, kPairsPerBlock)), dim3(kThreads), 0, stream_, losses.data(), g,
             ditems, pairs_, head_, last(), scale);
      launch(ncf_users_kernel, dim3(blocks_for(pairs_.n_users, kPairsPerBlock)), dim3(kThreads), 0, stream_, dusers,
             pairs_, head_, static_cast<const float*>(g));
    }
    const int64_t d = std::max(net_.d_product + 1, net_.d_last);
    DeviceBuffer<float> sums(2 * d, stream_);
    sum_columns(sums.data(), sums.data() + d, HeadTerms{pairs_, head_, g, last()}, pairs_.n, d, stream_);
    copy_on_device(dhead, sums.data(), net_.d_product, stream_);
    copy_on_device(dhead + net_.d_product, sums.data() + d, net_.d_last, stream_);
    copy_on_device(dhead + net_.d_product + net_.d_last, sums.data() + net_.d_product, 1, stream_);
    return device_sum(losses.data(), pairs_.n, stream_);
  }

  // Gradients of all layers, at dparams, and the tower's columns of those of rows.
  void backward_layers(Rows<float> dusers, Rows<float> ditems, float* dparams, const float* g) {
    DeviceBuffer<float> dz, before;
    const float* base = network_.params;
    for (int64_t l = net_.n - 1; l >= 0; --l) {
      const NcfLayer& layer = net_.layer[l];
      const int64_t d_in = layer.d_in, d_out = layer.d_out, size = pairs_.n * d_out;
      const bool is_last = l == net_.n - 1;
      float *dw = dparams + (layer.w - base), *db = dparams + (layer.b - base);
      if (is_last) dz = DeviceBuffer<float>(size, stream_);
      if (size > 0) {
        launch(ncf_slope_kernel, dim3(blocks_for(size, kThreads)), dim3(kThreads), 0, stream_, dz.data(),
               static_cast<const float*>(z_[l].data()), g, is_last ? head_.h_last : nullptr, size, d_out,
               network_.activation, masks(l));
      }
      if (l == 0) return first_layer(dusers, ditems, dw, db, dz.data());
      gemm_over_rows(dw, d_out, db, AcrossDepth{z_[l - 1].data(), d_in}, AcrossDepth{dz.data(), d_out}, d_in, d_out,
                     pairs_.n, stream_);
      before = DeviceBuffer<float>(pairs_.n * d_in, stream_);
      gemm(AlongDepth{dz.data(), d_out}, AlongDepth{layer.w, d_out}, BiasOut{before.data(), d_in, nullptr}, pairs_.n,
           d_in, d_out, stream_);
      dz = std::move(before);
    }
  }

 private:
  void first_layer(Rows<float> dusers, Rows<float> ditems, float* dw, float* db, const float* dz) {
    const NcfLayer& layer = net_.layer[0];
    const int64_t tower = net_.d_tower, d_out = layer.d_out, d = pairs_.items.d, n_users = pairs_.n_users;
    if (tower == 0) {  // nothing goes in but the bias
      DeviceBuffer<float> unused(d_out, stream_);
      return sum_columns(db, unused.data(), RowTerms{dz, d_out}, pairs_.n, d_out, stream_);
    }
    const float* lower = layer.w + tower * d_out;
    gemm_over_rows(dw + tower * d_out, d_out, db, GatheredColumns<>{items(), pairs_.item_ids, d},
                   AcrossDepth{dz, d_out}, tower, d_out, pairs_.n, stream_);
    gemm(AlongDepth{dz, d_out}, AlongDepth{lower, d_out}, BiasOut{ditems.data + net_.d_product, d, nullptr}, pairs_.n,
         tower, d_out, stream_);
    DeviceBuffer<float> sums(n_users * d_out, stream_);
    if (n_users > 0) {
      launch(ncf_user_sums_kernel, dim3(blocks_for(n_users * d_out, kThreads)), dim3(kThreads), 0, stream_, sums.data(),
             dz, n_users, pairs_.width, d_out);
    }
    gemm_over_rows(dw, d_out, nullptr, GatheredColumns<>{users(), pairs_.user_ids, d}, AcrossDepth{sums.data(), d_out},
                   tower, d_out, n_users, stream_);
    gemm(AlongDepth{sums.data(), d_out}, AlongDepth{layer.w, d_out}, BiasOut{dusers.data + net_.d_product, d, nullptr},
         n_users, tower, d_out, stream_);
  }

  const float* users() const { return pairs_.users.data + net_.d_product; }
  const float* items() const { return pairs_.items.data + net_.d_product; }
  const float* last() const { return net_.n > 0 ? z_[net_.n - 1].data() : nullptr; }
  Dropout masks(int64_t l) const {
    DropoutMask own = network_.dropout;
    own.site += static_cast<uint32_t>(l);
    return Dropout(own);
  }

  Pairs pairs_;
  const NcfNetwork& network_;
  NcfLayers net_;
  Head head_;
  Stream stream_ = current_stream();
  std::array<DeviceBuffer<float>, kNcfMaxLayers> z_;
};

}  // namespace

template <>
double ncf_loss<Cuda>(Rows<float> dusers, Rows<float> ditems, float* dparams, Rows<const float> users,
                      Rows<const float> items, const int32_t* user_ids, Rows<const int32_t> item_ids,
                      const NcfNetwork& network, float scale, int) {
  const Pairs pairs{users, items, user_ids, item_ids.data, item_ids.n, item_ids.d, item_ids.n * item_ids.d};
  if (pairs.n >= int64_t{1} << 31) throw ShapeError("pairs of a batch", pairs.n, (int64_t{1} << 31) - 1);
  DeviceBuffer<float> g(pairs.n);
  Step step(pairs, network);
  step.forward();
  const int64_t n_head = network.d_product + network.d_last() + 1;
  const double loss = step.score(dusers, ditems, dparams + network.n_params() - n_head, g.data(), scale);
  step.backward_layers(dusers, ditems, dparams, g.data());
  return loss;
}

}  // namespace recsys_fast
