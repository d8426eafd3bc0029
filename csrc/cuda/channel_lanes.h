// Threads for the places of images: those of a place, a power of two up to a warp, take its channels in turn, so that
// neighbours load neighbours; where a place lies is a matter of 32 bits.
#pragma once

#include "cuda/divider.h"
#include "cuda/kernel.h"

namespace recsys_fast {

// Returns n; throws where it does not fit.
inline int64_t checked_places(int64_t n) {
  if (n >= int64_t{1} << 31) throw ShapeError("places of all images", n, (int64_t{1} << 31) - 1);
  return n;
}

struct ChannelLanes {
  static constexpr int kThreads = 256;
  int shift = 0;

  explicit ChannelLanes(int64_t channels) {
    while (shift < 5 && int64_t{1} << shift < channels) ++shift;
  }
  // Blocks of kThreads for so many places, fewer than 2^31.
  dim3 grid(int64_t n_places) const { return dim3(blocks_for(n_places << shift, kThreads)); }
  __device__ int64_t place() const { return (int64_t{blockIdx.x} * kThreads + threadIdx.x) >> shift; }
  __device__ int64_t first() const { return threadIdx.x & (step() - 1); }
  __device__ unsigned step() const { return 1u << shift; }
};

// Places are numbered image by image, row by row.
struct ImagePlaces {
  Divider per_image, per_row;
  ImagePlaces(int64_t high, int64_t wide) : per_image(checked_places(high * wide)), per_row(wide) {}
  // The image, and where in it.
  struct Place {
    uint32_t image, row, col;
  };
  RF_HOST_DEVICE Place at(int64_t number) const {
    auto col = static_cast<uint32_t>(number);
    const uint32_t image = per_image.split(col), row = per_row.split(col);
    return {image, row, col};
  }
};

}  // namespace recsys_fast
