// Membership in a row of sorted ids, by one thread.
#pragma once

#include "core/sorted_ids.h"
#include "cuda/kernel.h"

namespace recsys_fast {

struct IdRow {
  const int32_t* ids;
  int64_t n;

  RF_HOST_DEVICE bool contains(int32_t id) const {
    const int64_t t = first_above(n, [&](int64_t i) { return ids[i] >= id; });
    return t < n && ids[t] == id;
  }
};

}  // namespace recsys_fast
