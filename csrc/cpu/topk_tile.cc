#include "cpu/topk_tile.h"

#include <algorithm>
#include <new>
#include <utility>

#include "core/arena.h"

namespace recsys_fast {

Tile::Tile(const RankTask& task, const Basis& basis, const ItemPanels& panels, int64_t begin, int64_t end,
           int64_t capacity)
    : task_(task),
      basis_(basis),
      panels_(panels),
      d_(panels.d),
      head_(panels.has_bytes() ? 0 : basis.head()),
      n_words_(panels.has_bytes() ? byte_words(panels.d) : 0),
      n_(end - begin),
      n_active_(n_) {
  const auto n_slots = static_cast<size_t>((n_ + kTileRows - 1) / kTileRows * kTileRows);
  const auto d = static_cast<size_t>(d_), room = static_cast<size_t>(capacity);
  const size_t n_sums = (n_slots + kTileRows) * kPanel;  // a group writes all its rows, possible or not
  Arena& arena = thread_arena();
  arena.reset(Arena::padded<float>(n_slots * d) + 4 * Arena::padded<float>(n_slots) + Arena::padded<float>(n_sums) +
              Arena::padded<int32_t>(n_slots * static_cast<size_t>(n_words_)) + 4 * Arena::padded<float>(n_slots) +
              2 * Arena::padded<int64_t>(n_slots + 1) + Arena::padded<Candidates>(n_slots) +
              Arena::padded<float>(d + kLanes) + Arena::padded<uint64_t>(room) +
              2 * Arena::padded<float>(n_slots * room));
  rows_ = arena.take<float>(n_slots * d);
  thresholds_ = arena.take<float>(n_slots);
  norms_ = arena.take<float>(n_slots);
  tails_ = arena.take<float>(n_slots);
  slacks_ = arena.take<float>(n_slots);
  words_ = arena.take<int32_t>(n_slots * static_cast<size_t>(n_words_));
  inverse_steps_ = arena.take<float>(n_slots);
  errors_ = arena.take<float>(n_slots);
  offsets_ = arena.take<int32_t>(n_slots);
  limits_ = arena.take<int32_t>(n_slots);
  queries_ = arena.take<int64_t>(n_slots + 1);
  candidates_ = arena.take<Candidates>(n_slots);
  possible_ = arena.take<int64_t>(n_slots + 1);
  sums_ = arena.take<float>(n_sums);
  turned_ = arena.take<float>(d + kLanes);
  selection_ = {task.k, capacity, task.items, arena.take<uint64_t>(room)};
  float* scores = arena.take<float>(n_slots * room);
  int32_t* ids = arena.take<int32_t>(n_slots * room);
  for (int64_t i = 0; i < n_; ++i) admit(i, task.query(begin + i), scores + i * capacity, ids + i * capacity);
  for (int64_t i = n_; i < static_cast<int64_t>(n_slots); ++i) {
    const float zero = 0.0f;
    copy_strided(query_slot(rows_, i, d_), &zero, d_, kTileRows, 0);
    for (int64_t w = 0; w < n_words_; ++w) byte_slot(i)[w * kTileRows] = 0;
    norms_[i] = tails_[i] = slacks_[i] = errors_[i] = 0.0f;
    inverse_steps_[i] = 1.0f;
    offsets_[i] = 0;
    thresholds_[i] = -kNoScore;
  }
  const auto n_read =
      padded(static_cast<int64_t>(n_slots));  // whole vectors are: sums with what is there must not overflow
  std::fill(offsets_ + n_slots, offsets_ + n_read, 0);
}

void Tile::admit(int64_t slot, int64_t query, float* scores, int32_t* ids) {
  const float* given = task_.queries.row(query);
  const float* row = given;
  tails_[slot] = 0.0f;
  if (basis_.rotates()) {
    basis_.rotate(turned_, given);
    tails_[slot] = row_norm(turned_ + head_, d_ - head_);
    row = turned_;
  }
  copy_strided(query_slot(rows_, slot, d_), row, d_, kTileRows, 1);
  if (n_words_ > 0) {
    const ByteQuery bytes = pack_byte_query(byte_slot(slot), kTileRows, row, d_);
    inverse_steps_[slot] = bytes.inverse_step;
    errors_[slot] = bytes.error;
    offsets_[slot] = bytes.offset;
  }
  queries_[slot] = query;
  norms_[slot] = row_norm(given, d_);
  // |sum in another order - dot(q, y)| <= 2 d u |q| |y|, u = 2^-24; what rotating adds; what underflow loses.
  const auto width = static_cast<double>(d_);
  const double error = (0x1p-23 * width + basis_.error()) * norms_[slot] * panels_.norm_bound(0) + 0x1p-147 * width;
  slacks_[slot] = static_cast<float>(2.0 * error);
  thresholds_[slot] = kNoScore;
  new (candidates_ + slot) Candidates();
  candidates_[slot].start(selection_, scores, ids, given, task_.seen(query), slacks_[slot]);
}

// Lets go the queries that no item of this norm or less can serve.
void Tile::retire(float norm_bound) {
  for (int64_t first = 0; first < n_active_; first += kLanes) {
    const Vec reach = load(norms_ + first) * broadcast(norm_bound) + load(slacks_ + first);
    if (mask_ge(reach, load(thresholds_ + first)) == first_lanes(kLanes)) continue;
    for (int64_t i = first; i < std::min(first + kLanes, n_active_); ++i) {
      while (i < n_active_ && norms_[i] * norm_bound + slacks_[i] < thresholds_[i]) replace(i, --n_active_);
    }
  }
}

void Tile::replace(int64_t slot, int64_t by) {
  copy_strided(query_slot(rows_, slot, d_), query_slot(rows_, by, d_), d_, kTileRows, kTileRows);
  for (int64_t w = 0; w < n_words_; ++w) byte_slot(slot)[w * kTileRows] = byte_slot(by)[w * kTileRows];
  inverse_steps_[slot] = inverse_steps_[by];
  errors_[slot] = errors_[by];
  offsets_[slot] = offsets_[by];
  norms_[slot] = norms_[by];
  tails_[slot] = tails_[by];
  slacks_[slot] = slacks_[by];
  thresholds_[slot] = thresholds_[by];
  thresholds_[by] = -kNoScore;
  std::swap(queries_[slot], queries_[by]);
  std::swap(candidates_[slot], candidates_[by]);
}

// The heads of all active queries against a panel. Lists the slots that by the norms of the tails may reach their
// threshold, and keeps their sums. Scores of the others never leave the registers.
void Tile::survey(int64_t panel) {
  const float* tails = panels_.tails(panel);
  n_possible_ = 0;
  for (int64_t first = 0; first < n_active_; first += kTileRows) {
    const float* rows[kTileRows];
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) rows[i] = rows_ + first * d_ + i;
    Vec sum[kTileRows][kTileVectors] = {};
    gemm_accumulate(sum, head_, rows, kTileRows, panels_.panel(panel), kPanel);
    uint32_t possible[kTileRows], any_possible = 0;
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
      const Vec tail = broadcast(tails_[first + i]);
      Vec most = sum[i][0] + tail * load(tails);
#pragma GCC unroll 8
      for (int v = 1; v < kTileVectors; ++v) most = max(most, sum[i][v] + tail * load(tails + v * kLanes));
      possible[i] = mask_ge(most, broadcast(thresholds_[first + i]));
      any_possible |= possible[i];
    }
    if (any_possible == 0) continue;
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < kTileVectors; ++v) store(sums_ + n_possible_ * kPanel + v * kLanes, sum[i][v]);
      possible_[n_possible_] = first + i;
      n_possible_ += possible[i] != 0;  // else the next row overwrites it
    }
  }
}

// The same by the bytes of whole rows, of which no sums are kept.
RF_BYTE_DOT void Tile::survey_bytes(int64_t panel) {
  const int64_t n_slots = (n_active_ + kTileRows - 1) / kTileRows * kTileRows;  // the last group may have empty ones
  byte_limits(limits_, {thresholds_, norms_, inverse_steps_, errors_, offsets_}, n_slots, panels_.byte_bounds(panel));
  n_possible_ = 0;
  for (int64_t first = 0; first < n_active_; first += kTileRows) {
    VecInt sum[kTileRows][kTileVectors] = {};
    byte_accumulate(sum, n_words_, words_ + first * n_words_, panels_.bytes(panel));
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
      VecInt most = sum[i][0];
#pragma GCC unroll 8
      for (int v = 1; v < kTileVectors; ++v) most = max(most, sum[i][v]);
      possible_[n_possible_] = first + i;
      n_possible_ += mask_ge(most, VecInt{} + limits_[first + i]) != 0;
    }
  }
}

// Adds the tails to the sums of the possible slots.
void Tile::complete(int64_t panel) {
  for (int64_t at = 0; at < n_possible_; at += kTileRows) {
    const float* rows[kTileRows];
    Vec sum[kTileRows][kTileVectors];
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
      const int64_t slot = possible_[std::min(at + i, n_possible_ - 1)];
      rows[i] = query_slot(rows_, slot, d_) + head_ * kTileRows;
#pragma GCC unroll 8
      for (int v = 0; v < kTileVectors; ++v)
        sum[i][v] = head_ > 0 ? load(sums_ + (at + i) * kPanel + v * kLanes) : Vec{};
    }
    gemm_accumulate(sum, d_ - head_, rows, kTileRows, panels_.panel(panel) + head_ * kPanel, kPanel);
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 8
      for (int v = 0; v < kTileVectors; ++v) store(sums_ + (at + i) * kPanel + v * kLanes, sum[i][v]);
    }
  }
}

void Tile::scan() {
  for (int64_t p = 0; p < panels_.n_panels; ++p) {
    retire(panels_.norm_bound(p));
    if (n_active_ == 0) return;
    n_words_ > 0 ? survey_bytes(p) : survey(p);
    if (head_ < d_) complete(p);
    for (int64_t j = 0; j < n_possible_; ++j) {
      const int64_t slot = possible_[j];
      candidates_[slot].offer(selection_, sums_ + j * kPanel, panels_.ids(p), panels_.width(p));
      thresholds_[slot] = candidates_[slot].threshold();
    }
  }
}

void Tile::finish(RankSink& sink) {
  for (int64_t i = 0; i < n_; ++i) {
    Candidates& candidates = candidates_[i];
    candidates.thin_out(selection_);
    candidates.settle(selection_);
    sink.take(queries_[i], candidates.ids(), candidates.scores(), candidates.size());
  }
}

}  // namespace recsys_fast
