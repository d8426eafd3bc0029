// A thread per event draws whether it stays and how far it looks; running sums of those that stay are their places in
// the stream, twice, since a token alone in its row goes as well. Then a thread per tile looks at its tokens.
#include "cuda/skipgram_plan.h"

#include "core/sorted_ids.h"
#include "cuda/prefix_sum.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256;

// reach (n) = how far each event looks, staying (n + 1) = 1 where that is anywhere.
__global__ void __launch_bounds__(kThreads)
    skipgram_reach_kernel(int32_t* reach, int64_t* staying, SkipgramProblem p, int64_t n) {
  const int64_t e = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (e > n) return;
  int32_t own = 0;
  if (e < n) {
    const Philox words = draw4(p.seed, p.epoch, static_cast<uint64_t>(e), 0);
    own = skipgram_reach(p, p.ids[e], words[0], words[1]);
    reach[e] = own;
  }
  staying[e] = own > 0 ? 1 : 0;
}

// The places of an event's row among those that `places` counts.
struct RowPlaces {
  int64_t begin, end;
};
__device__ RowPlaces row_places(const SkipgramProblem& p, const int64_t* places, int64_t e) {
  const int64_t row = row_of_entry(p.row_ptr, p.n_rows, e);
  return {places[p.row_ptr[row]], places[p.row_ptr[row + 1]]};
}

// staying (n + 1) = 1 where an event stays that is not alone; places: running sums of those that stay.
__global__ void __launch_bounds__(kThreads)
    skipgram_together_kernel(int64_t* staying, const int64_t* places, SkipgramProblem p, int64_t n) {
  const int64_t e = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (e > n) return;
  int64_t stays = 0;
  if (e < n && places[e + 1] > places[e]) {
    const RowPlaces row = row_places(p, places, e);
    stays = row.end - row.begin > 1 ? 1 : 0;
  }
  staying[e] = stays;
}

__global__ void __launch_bounds__(kThreads)
    skipgram_tokens_kernel(int32_t* ids, int64_t* low, int64_t* high, const int64_t* places, const int32_t* reach,
                           SkipgramProblem p, int64_t n) {
  const int64_t e = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (e >= n || places[e + 1] == places[e]) return;
  const int64_t i = places[e];
  const RowPlaces row = row_places(p, places, e);
  ids[i] = p.ids[e];
  low[i] = max(row.begin, i - reach[e]);
  high[i] = min(row.end, i + reach[e] + 1);
}

// The partners of all tokens of a tile.
__device__ SkipgramTile whole_tile(const SkipgramStream& tokens, int64_t begin, int64_t width) {
  SkipgramTile tile = {begin, min(tokens.n, begin + width), tokens.n, 0};
  for (int64_t i = tile.begin; i < tile.end; ++i) {
    tile.first = min(tile.first, tokens.low[i]);
    tile.last = max(tile.last, tokens.high[i]);
  }
  return tile;
}

// counts (n + 1) = tiles that the n runs of `width` tokens fall into.
__global__ void __launch_bounds__(kThreads)
    skipgram_counts_kernel(int64_t* counts, SkipgramStream tokens, int64_t width, int64_t n) {
  const int64_t run = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (run > n) return;
  int64_t count = 0;
  if (run < n) {
    const SkipgramTile tile = whole_tile(tokens, run * width, width);
    count = (tile.last - tile.first + kSkipgramPartners - 1) / kSkipgramPartners;
  }
  counts[run] = count;
}

// The tiles of each run, without the tokens at their ends that have no partner in them. Every place between the first
// and the last partner is some token's, so that no tile is empty.
__global__ void __launch_bounds__(kThreads)
    skipgram_tiles_kernel(SkipgramTile* tiles, const int64_t* starts, SkipgramStream tokens, int64_t width, int64_t n) {
  const int64_t run = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (run >= n) return;
  const SkipgramTile whole = whole_tile(tokens, run * width, width);
  SkipgramTile* out = tiles + starts[run];
  for (int64_t first = whole.first; first < whole.last; first += kSkipgramPartners) {
    SkipgramTile tile = {whole.begin, whole.end, first, min(whole.last, first + kSkipgramPartners)};
    const auto alone = [&](int64_t i) { return tokens.high[i] <= tile.first || tokens.low[i] >= tile.last; };
    while (alone(tile.begin)) ++tile.begin;
    while (alone(tile.end - 1)) --tile.end;
    *out++ = tile;
  }
}

dim3 grid_for(int64_t n) { return dim3(blocks_for(n, kThreads)); }

}  // namespace

SkipgramPlan::SkipgramPlan(const SkipgramProblem& p, Stream stream) {
  const int64_t n = p.n_rows > 0 ? read_element(p.row_ptr + p.n_rows, stream) : 0;
  if (n == 0) return;
  DeviceBuffer<int32_t> reach(n, stream);
  DeviceBuffer<int64_t> all(n + 1, stream), places(n + 1, stream);
  launch(skipgram_reach_kernel, grid_for(n + 1), dim3(kThreads), 0, stream, reach.data(), all.data(), p, n);
  prefix_sum(all.data(), n + 1, stream);
  launch(skipgram_together_kernel, grid_for(n + 1), dim3(kThreads), 0, stream, places.data(), all.data(), p, n);
  prefix_sum(places.data(), n + 1, stream);
  n_tokens_ = read_element(places.data() + n, stream);
  if (n_tokens_ == 0) return;
  ids_ = DeviceBuffer<int32_t>(n_tokens_, stream);
  low_ = DeviceBuffer<int64_t>(n_tokens_, stream);
  high_ = DeviceBuffer<int64_t>(n_tokens_, stream);
  launch(skipgram_tokens_kernel, grid_for(n), dim3(kThreads), 0, stream, ids_.data(), low_.data(), high_.data(),
         places.data(), reach.data(), p, n);
  const int64_t n_runs = (n_tokens_ + p.tile - 1) / p.tile;
  DeviceBuffer<int64_t> starts(n_runs + 1, stream);
  launch(skipgram_counts_kernel, grid_for(n_runs + 1), dim3(kThreads), 0, stream, starts.data(), tokens(), p.tile,
         n_runs);
  prefix_sum(starts.data(), n_runs + 1, stream);
  n_tiles_ = read_element(starts.data() + n_runs, stream);
  tiles_ = DeviceBuffer<SkipgramTile>(n_tiles_, stream);
  launch(skipgram_tiles_kernel, grid_for(n_runs), dim3(kThreads), 0, stream, tiles_.data(), starts.data(), tokens(),
         p.tile, n_runs);
}

}  // namespace recsys_fast
