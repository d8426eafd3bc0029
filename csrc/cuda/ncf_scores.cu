// Scores of all pairs of users and items: h . (p * q) + c by one product of tables, then, a chunk of pairs at a time,
// the tower. Both halves of the first layer are multiplied once per row; a pair's sum of them is made where the second
// layer reads it. Memory besides: two chunks of up to 16 million numbers.
#include <algorithm>

#include "cuda/activation.h"
#include "cuda/gemm.h"
#include "cuda/reduce.h"
#include "ops/ncf_layers.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256, kLanes = 8, kPairsPerBlock = kThreads / kLanes;
constexpr int64_t kChunkFloats = int64_t{1} << 24;

// p_i * h, element k.
struct WeightedRows {
  static constexpr bool kAlongDepth = true, kStrided = false;
  const float *table, *h;
  int64_t stride;
  __device__ __forceinline__ float operator()(int64_t i, int64_t k) const { return table[i * stride + k] * h[k]; }
};

// out = product + c.
struct ScoreOut {
  float* out;
  const float* c;
  int64_t n_items;
  __device__ void operator()(int64_t row, int64_t col, float value) const { out[row * n_items + col] = value + c[0]; }
};

// z_1 of the pairs of a chunk, element k: from the user's half, with the bias, and the item's.
struct FirstLayer {
  static constexpr bool kAlongDepth = true, kStrided = false;
  const float *users, *items;  // (n_users, d), (n_items, d)
  int64_t d, first_user;
  uint32_t first_item, n_items;  // of the chunk's first pair; how many there are
  Activation activation;
  __device__ __forceinline__ float operator()(int64_t r, int64_t k) const {
    const uint32_t at = first_item + static_cast<uint32_t>(r);
    return activate(activation, users[(first_user + at / n_items) * d + k] + items[at % n_items * d + k]);
  }
};

// z = activation(product + b).
struct LayerOut {
  float* z;
  const float* b;
  int64_t d;
  Activation activation;
  __device__ void operator()(int64_t row, int64_t col, float value) const {
    z[row * d + col] = activate(activation, value + b[col]);
  }
};

struct LastLayer {
  const float* z;
  int64_t d;
  __device__ float operator()(int64_t r, int64_t k) const { return z[r * d + k]; }
};

// out (n) += h . z. Eight lanes per pair.
template <class Last>
__global__ void __launch_bounds__(kThreads)
    ncf_add_scores_kernel(float* out, Last last, const float* h, int64_t n, int64_t d) {
  const int64_t r = int64_t{blockIdx.x} * kPairsPerBlock + threadIdx.x / kLanes;
  float sum = 0.0f;
  if (r < n) {
    for (int64_t k = threadIdx.x % kLanes; k < d; k += kLanes) sum += h[k] * last(r, k);
  }
  sum = Warp::reduce(sum, Sum(), kLanes);
  if (r < n && threadIdx.x % kLanes == 0) out[r] += sum;
}

template <class Last>
void add_scores(float* out, const Last& last, const float* h, int64_t n, int64_t d, Stream stream) {
  launch(ncf_add_scores_kernel<Last>, dim3(blocks_for(n, kPairsPerBlock)), dim3(kThreads), 0, stream, out, last, h, n,
         d);
}

}  // namespace

template <>
void ncf_scores<Cuda>(Rows<float> out, Rows<const float> users, Rows<const float> items, const NcfNetwork& network,
                      int) {
  const Stream stream = current_stream();
  const NcfLayers net = ncf_layers(network);
  const int64_t d = users.d, n_items = items.n, n_pairs = users.n * n_items;
  if (n_pairs == 0) return;
  gemm(WeightedRows{users.data, net.h, d}, AlongDepth{items.data, d}, ScoreOut{out.data, net.c, n_items}, users.n,
       n_items, net.d_product, stream);
  if (net.n == 0) return;
  const NcfLayer& one = net.layer[0];
  const int64_t d_one = one.d_out, tower = net.d_tower;
  DeviceBuffer<float> user_half(users.n * d_one, stream), item_half(n_items * d_one, stream);
  gemm(AlongDepth{users.data + net.d_product, d}, AcrossDepth{one.w, d_one}, BiasOut{user_half.data(), d_one, one.b},
       users.n, d_one, tower, stream);
  gemm(AlongDepth{items.data + net.d_product, d}, AcrossDepth{one.w + tower * d_one, d_one},
       BiasOut{item_half.data(), d_one, nullptr}, n_items, d_one, tower, stream);
  int64_t widest = 1;
  for (int64_t l = 1; l < net.n; ++l) widest = std::max(widest, net.layer[l].d_out);
  const int64_t chunk = std::min(n_pairs, std::max<int64_t>(kChunkFloats / widest, kGemmTile));
  DeviceBuffer<float> even(net.n > 1 ? chunk * widest : 0, stream), odd(net.n > 2 ? chunk * widest : 0, stream);
  for (int64_t first = 0; first < n_pairs; first += chunk) {
    const int64_t n = std::min(chunk, n_pairs - first);
    const FirstLayer rows{user_half.data(),
                          item_half.data(),
                          d_one,
                          first / n_items,
                          static_cast<uint32_t>(first % n_items),
                          static_cast<uint32_t>(n_items),
                          network.activation};
    const float* z = nullptr;
    for (int64_t l = 1; l < net.n; ++l) {
      const NcfLayer& layer = net.layer[l];
      float* to = l % 2 == 1 ? even.data() : odd.data();
      const LayerOut finish{to, layer.b, layer.d_out, network.activation};
      const AcrossDepth w{layer.w, layer.d_out};
      if (l == 1) {
        gemm(rows, w, finish, n, layer.d_out, layer.d_in, stream);
      } else {
        gemm(AlongDepth{z, layer.d_in}, w, finish, n, layer.d_out, layer.d_in, stream);
      }
      z = to;
    }
    if (net.n == 1) {
      add_scores(out.data + first, rows, net.h_last, n, net.d_last, stream);
    } else {
      add_scores(out.data + first, LastLayer{z, net.d_last}, net.h_last, n, net.d_last, stream);
    }
  }
}

}  // namespace recsys_fast
