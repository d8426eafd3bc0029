// What an epoch of skip-gram goes through, on the device: the tokens that stay, how far each looks, and the tiles.
#pragma once

#include "cuda/kernel.h"
#include "ops/skipgram.h"

namespace recsys_fast {

// The stream of tokens that stay: token i is paired with the tokens [low, high), itself left out.
struct SkipgramStream {
  const int32_t* ids;
  const int64_t *low, *high;
  int64_t n;
};

class SkipgramPlan {
 public:
  SkipgramPlan(const SkipgramProblem& problem, Stream stream);

  SkipgramStream tokens() const { return {ids_.data(), low_.data(), high_.data(), n_tokens_}; }
  const SkipgramTile* tiles() const { return tiles_.data(); }
  int64_t n_tiles() const { return n_tiles_; }

 private:
  int64_t n_tokens_ = 0, n_tiles_ = 0;
  DeviceBuffer<int32_t> ids_;
  DeviceBuffer<int64_t> low_, high_;
  DeviceBuffer<SkipgramTile> tiles_;
};

}  // namespace recsys_fast
