// A warp takes a tile of the keys, in order, 32 at a time. Lanes with equal keys find each other with eight votes (one
// per bit), so that each knows its rank and the lowest adds for all: no atomics, hence a stable order. Counts are laid
// out (key, tile), and their running sums are where each tile's keys go.
#include "cuda/counting_sort.h"

#include "cuda/prefix_sum.h"

namespace recsys_fast {
namespace {

constexpr int kWarps = 4;        // 8 KB of counters a block
constexpr int64_t kTile = 2048;  // per warp: counters are 1/8 of the keys' number at 256 keys

// Lanes whose key is this lane's; `here`: lanes that have one.
__device__ inline unsigned peers_of(unsigned key, unsigned here) {
  unsigned peers = here;
  for (int bit = 0; bit < 8; ++bit) {
    const bool set = (key >> bit & 1) != 0;
    const unsigned with = __ballot_sync(kFullMask, set);
    peers &= set ? with : ~with;
  }
  return peers;
}

// Counts of one tile per warp: counts[key * n_tiles + tile].
__global__ void __launch_bounds__(kWarps * 32)
    tile_counts_kernel(int64_t* counts, const uint8_t* keys, int64_t n, int n_keys, int64_t n_tiles) {
  RF_SHARED(int32_t, count, kWarps* kMostKeys);
  const int lane = static_cast<int>(threadIdx.x) % 32, first = static_cast<int>(threadIdx.x) / 32 * kMostKeys;
  const int64_t tile = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  for (int k = lane; k < n_keys; k += 32) count[first + k] = 0;
  __syncwarp();
  const int64_t end = tile < n_tiles ? (n < (tile + 1) * kTile ? n : (tile + 1) * kTile) : 0;
  for (int64_t i = tile * kTile; i < end; i += 32) {
    const bool in = i + lane < end;
    const unsigned key = in ? keys[i + lane] : 0, peers = peers_of(key, __ballot_sync(kFullMask, in));
    if (in && __ffs(static_cast<int>(peers)) - 1 == lane) {
      count[first + static_cast<int>(key)] = count[first + static_cast<int>(key)] + __popc(peers);
    }
    __syncwarp();
  }
  if (tile >= n_tiles) return;
  for (int k = lane; k < n_keys; k += 32) counts[k * n_tiles + tile] = count[first + k];
}

template <class Index>
__global__ void __launch_bounds__(kWarps * 32)
    tile_order_kernel(Index* order, const int64_t* starts, const uint8_t* keys, int64_t n, int n_keys,
                      int64_t n_tiles) {
  RF_SHARED(int64_t, at, kWarps* kMostKeys);
  const int lane = static_cast<int>(threadIdx.x) % 32, first = static_cast<int>(threadIdx.x) / 32 * kMostKeys;
  const int64_t tile = int64_t{blockIdx.x} * kWarps + threadIdx.x / 32;
  if (tile >= n_tiles) return;
  for (int k = lane; k < n_keys; k += 32) at[first + k] = starts[k * n_tiles + tile];
  __syncwarp();
  const int64_t end = n < (tile + 1) * kTile ? n : (tile + 1) * kTile;
  for (int64_t i = tile * kTile; i < end; i += 32) {
    const bool in = i + lane < end;
    const unsigned key = in ? keys[i + lane] : 0, peers = peers_of(key, __ballot_sync(kFullMask, in));
    const int64_t start = in ? static_cast<int64_t>(at[first + static_cast<int>(key)]) : 0;
    if (in) order[start + __popc(peers & ((1u << lane) - 1))] = static_cast<Index>(i + lane);
    __syncwarp();
    if (in && __ffs(static_cast<int>(peers)) - 1 == lane) at[first + static_cast<int>(key)] = start + __popc(peers);
    __syncwarp();
  }
}

__global__ void begin_kernel(int64_t* begin, const int64_t* starts, int64_t n, int n_keys, int64_t n_tiles) {
  for (int k = static_cast<int>(threadIdx.x); k <= n_keys; k += static_cast<int>(blockDim.x)) {
    begin[k] = k < n_keys && n_tiles > 0 ? starts[k * n_tiles] : n;
  }
}

}  // namespace

template <class Index>
void counting_sort(Index* order, int64_t* begin, const uint8_t* keys, int64_t n, int n_keys, Stream stream) {
  const int64_t n_tiles = (n + kTile - 1) / kTile;
  DeviceBuffer<int64_t> starts(n_keys * n_tiles, stream);
  if (n_tiles > 0) {
    const dim3 grid(blocks_for(n_tiles, kWarps)), block(kWarps * 32);
    launch(tile_counts_kernel, grid, block, 0, stream, starts.data(), keys, n, n_keys, n_tiles);
    prefix_sum(starts.data(), n_keys * n_tiles, stream);
    launch(tile_order_kernel<Index>, grid, block, 0, stream, order, starts.data(), keys, n, n_keys, n_tiles);
  }
  launch(begin_kernel, dim3(1), dim3(128), 0, stream, begin, starts.data(), n, n_keys, n_tiles);
}

template void counting_sort<int32_t>(int32_t*, int64_t*, const uint8_t*, int64_t, int, Stream);
template void counting_sort<int64_t>(int64_t*, int64_t*, const uint8_t*, int64_t, int, Stream);

}  // namespace recsys_fast
