// A tile of queries on its way through the panels of items.
#pragma once

#include "cpu/topk_basis.h"
#include "cpu/topk_candidates.h"
#include "cpu/topk_panels.h"
#include "cpu/topk_scan.h"

namespace recsys_fast {

// Lives in the calling thread's arena. The active queries hold the first slots; one that is done gives its slot away.
class Tile {
 public:
  // The wanted queries [begin, end) of the task; capacity of the buffer that each has for candidates.
  Tile(const RankTask& task, const Basis& basis, const ItemPanels& panels, int64_t begin, int64_t end,
       int64_t capacity);

  void scan();
  void finish(RankSink& sink);

 private:
  void admit(int64_t slot, int64_t query, float* scores, int32_t* ids);
  void retire(float norm_bound);
  void replace(int64_t slot, int64_t by);
  void survey(int64_t panel);
  RF_BYTE_DOT void survey_bytes(int64_t panel);
  void complete(int64_t panel);
  // Where the words of a slot start, kTileRows apart.
  int32_t* byte_slot(int64_t slot) const { return words_ + slot / kTileRows * n_words_ * kTileRows + slot % kTileRows; }

  const RankTask& task_;
  const Basis& basis_;
  const ItemPanels& panels_;
  const int64_t d_, head_, n_words_, n_;  // head_: coordinates that the survey sums up
  int64_t n_active_, n_possible_ = 0;
  Selection selection_;
  float* rows_;  // groups of kTileRows slots, (d, kTileRows) each
  // Per slot:
  float* thresholds_;  // infinite where nothing may pass
  float* norms_;
  float* tails_;   // norms of the coordinates behind the head
  float* slacks_;  // twice what a score may be off
  int64_t* queries_;
  Candidates* candidates_;
  // Per slot, where panels have bytes; the rest of ByteQueries is above.
  int32_t* words_;  // groups of kTileRows slots, (n_words_, kTileRows) each
  float *inverse_steps_, *errors_;
  int32_t *offsets_, *limits_;
  // Per slot that may reach its threshold in the current panel:
  int64_t* possible_;  // the slot
  float* sums_;        // its scores, kPanel of them
  float* turned_;      // scratch: a query in the basis
};

}  // namespace recsys_fast
