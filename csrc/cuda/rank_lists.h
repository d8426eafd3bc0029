// Lists of ids and scores, the results of a ranking.
#pragma once

#include "core/views.h"
#include "cuda/key_select.h"
#include "cuda/rank_key.h"

namespace recsys_fast {

// What rank_finish.h hands the sorted keys of a query to.
struct ListSink {
  Rows<int32_t> ids;
  Rows<float> scores;

  template <class Keys>
  __device__ void take(const BlockTeam& team, int64_t query, const Keys& keys, uint32_t n) const {
    for (int64_t j = team.rank(); j < ids.d; j += team.size()) {
      ids.row(query)[j] = j < n ? key_id(keys[j]) : -1;
      scores.row(query)[j] = j < n ? key_score(keys[j]) : -INFINITY;
    }
  }
};

// ids = -1, scores = -infinity.
void empty_lists(const ListSink& lists, Stream stream);

}  // namespace recsys_fast
