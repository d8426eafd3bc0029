// A tile of 4,096 entries counts its digits; a block per digit sums over the tiles; then each tile puts its entries
// where these sums say. Within a tile a warp owns 512 neighbouring entries and takes 32 of them at a time, in order:
// eight ballots tell a lane which others hold its digit, so that its place is theirs before it, and the sort is stable.
//
// Floor: 28 bytes an entry and pass (keys twice). A digit's run in a tile is 16 entries on average, so writes fill
// sectors of L2 by halves and wholes, not single words.
#include "cuda/entry_sort.h"

#include "cuda/reduce.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kWarpEntries = 512, kTile = kWarps * kWarpEntries;
static_assert(kThreads == kDigits, "a thread per digit");

__device__ __forceinline__ int digit_of(int32_t key, int shift) {
  return static_cast<int>(static_cast<uint32_t>(key) >> shift) % kDigits;
}

// starts[digit, tile] = how often the tile holds the digit.
__global__ void __launch_bounds__(kThreads)
    entry_digits_kernel(int64_t* starts, const int32_t* keys, int64_t n, int shift) {
  RF_SHARED(int, counts, kDigits);
  const int t = static_cast<int>(threadIdx.x);
  counts[t] = 0;
  __syncthreads();
  const int64_t begin = int64_t{blockIdx.x} * kTile, end = min(n, begin + kTile);
  for (int64_t e = begin + t; e < end; e += kThreads) atomicAdd(&counts[digit_of(keys[e], shift)], 1);
  __syncthreads();
  starts[int64_t{t} * gridDim.x + blockIdx.x] = static_cast<int>(counts[t]);
}

// Block: a digit. starts[digit, tile] becomes the sum over the tiles before; totals[digit] over all.
__global__ void __launch_bounds__(kThreads) entry_starts_kernel(int64_t* starts, int64_t* totals, int64_t n_tiles) {
  RF_SHARED(int64_t, scratch, 32);
  RF_SHARED(int64_t, sum, 1);
  int64_t* own = starts + blockIdx.x * n_tiles;
  int64_t before = 0;
  for (int64_t begin = 0; begin < n_tiles; begin += blockDim.x) {
    const int64_t tile = begin + threadIdx.x;
    const int64_t count = tile < n_tiles ? own[tile] : 0;
    const int64_t upto = Block::scan(count, scratch);
    if (tile < n_tiles) own[tile] = before + upto - count;
    if (threadIdx.x == blockDim.x - 1) sum[0] = upto;
    __syncthreads();
    before += sum[0];
    __syncthreads();
  }
  if (threadIdx.x == 0) totals[blockIdx.x] = before;
}

__global__ void __launch_bounds__(kThreads) entry_scatter_kernel(Entries out, ConstEntries in, const int64_t* starts,
                                                                 const int64_t* totals, int64_t n, int shift) {
  RF_SHARED(int64_t, scratch, 32);
  RF_SHARED(int64_t, places, kDigits);       // of the tile's first entry of each digit
  RF_SHARED(int, offsets, kWarps* kDigits);  // of the warp's next entry of each digit from there
  const int t = static_cast<int>(threadIdx.x), lane = t % 32;
  const int64_t total = totals[t];
  places[t] = Block::scan(total, scratch) - total + starts[int64_t{t} * gridDim.x + blockIdx.x];
  for (int w = 0; w < kWarps; ++w) offsets[w * kDigits + t] = 0;
  __syncthreads();

  const Shared<int> own = offsets + t / 32 * kDigits;
  const int64_t begin = int64_t{blockIdx.x} * kTile + t / 32 * kWarpEntries, end = min(n, begin + kWarpEntries);
  for (int64_t e = begin + lane; e < end; e += 32) atomicAdd(&own[digit_of(in.keys[e], shift)], 1);
  __syncthreads();
  int before = 0;
  for (int w = 0; w < kWarps; ++w) {
    const int count = offsets[w * kDigits + t];
    offsets[w * kDigits + t] = before;
    before += count;
  }
  __syncthreads();

  for (int64_t base = begin; base < end; base += 32) {
    const int64_t e = base + lane;
    const bool inside = e < end;
    const int32_t key = inside ? in.keys[e] : 0;
    const int digit = digit_of(key, shift);
    unsigned same = __ballot_sync(kFullMask, inside);
    for (int b = 0; b < kDigitBits; ++b) {
      const unsigned set = __ballot_sync(kFullMask, digit >> b & 1);
      same &= (digit >> b & 1) != 0 ? set : ~set;
    }
    const int rank = __popc(same & ((1u << lane) - 1));
    const int offset = own[digit];
    __syncwarp();
    if (inside) {
      const int64_t place = places[digit] + offset + rank;
      if (out.keys != nullptr) out.keys[place] = key;
      out.others[place] = in.others[e];
      if (in.values != nullptr) out.values[place] = in.values[e];
      if (rank == 0) own[digit] = offset + __popc(same);
    }
    __syncwarp();
  }
}

}  // namespace

EntrySorter::EntrySorter(int64_t n, Stream stream)
    : n_(n),
      n_tiles_((n + kTile - 1) / kTile),
      stream_(stream),
      starts_(kDigits * n_tiles_, stream),
      totals_(kDigits, stream) {}

void EntrySorter::pass(const Entries& out, const ConstEntries& in, int shift) const {
  if (n_ == 0) return;
  const dim3 tiles(static_cast<unsigned>(n_tiles_)), block(kThreads);
  launch(entry_digits_kernel, tiles, block, 0, stream_, starts_.data(), in.keys, n_, shift);
  const dim3 few(n_tiles_ > 4 * kWarpSize ? kThreads : kWarpSize);  // most plans of a batch are a tile or two
  launch(entry_starts_kernel, dim3(kDigits), few, 0, stream_, starts_.data(), totals_.data(), n_tiles_);
  launch(entry_scatter_kernel, tiles, block, 0, stream_, out, in, starts_.data(), totals_.data(), n_, shift);
}

}  // namespace recsys_fast
