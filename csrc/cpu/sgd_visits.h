// The samples of a part of an SGD epoch, in order, a batch at a time with their random words.
#pragma once

#include "core/rng_lanes.h"
#include "cpu/sgd_plan.h"

namespace recsys_fast {

struct SgdVisit {
  uint64_t sample;  // whose random words the visit uses, from word 4 * block on
  uint32_t block;
  int32_t user, item;
  float value;       // the entry's value, 1 without values
  IdRow seen;        // the user's items in the positive's block
  int32_t negative;  // for the loss to fill in
};

struct SgdBatch {
  static constexpr int kMost = 64, kMostWords = 1024, kMostWordsOfVisit = 32;
  int n = 0, most = kMost;
  int n_words = 0;  // made of every visit, a multiple of 4
  SgdVisit visits[kMost];
  uint32_t words[kMostWords + 4 * kDrawLanes] = {};

  // wanted: words that a visit will use, most likely.
  explicit SgdBatch(int64_t wanted)
      : n_words(static_cast<int>(std::min<int64_t>((wanted + 3) / 4 * 4, kMostWordsOfVisit))) {
    if (n_words > 0) most = std::min(kMost, kMostWords / n_words);
  }
  const uint32_t* first_words(int t) const { return words + n_words * t; }
  SgdWords words_of(int t, const SgdProblem& p) const {
    return {p.seed, p.epoch, visits[t].sample, visits[t].block, first_words(t), n_words};
  }
};

// One entry on its way to becoming visits.
struct SgdEntry {
  int64_t entry;
  uint64_t sample;
  int32_t user, item;
  float value;
  IdRow seen;
};

// The entries of a cell of the plan. Runs of one user are short, so their ends are found without branches.
class SgdCellEntries {
 public:
  explicit SgdCellEntries(const SgdCell& cell) : cell_(cell) {}
  bool next(SgdEntry& out) {
    if (at_ == cell_.n) return false;
    const int64_t e = at_++, left = run_length(e);
    const int32_t user = cell_.users[e];
    begin_ = e > 0 && cell_.users[e - 1] == user ? begin_ : e;
    out.entry = cell_.entries[e];
    out.sample = static_cast<uint64_t>(cell_.entries[e]);
    out.user = user;
    out.item = cell_.items[e];
    out.value = cell_.values != nullptr ? cell_.values[e] : 1.0f;
    out.seen.ids = cell_.items + begin_;
    out.seen.n = e - begin_ + left;
    return true;
  }

 private:
  // Entries of the user of e, from e on.
  int64_t run_length(int64_t e) const {
    const VecInt user = VecInt{} + cell_.users[e];
    for (int64_t n = 0;; n += kLanes) {
      const int64_t left = cell_.n - e - n;
      const VecInt users = left >= kLanes ? load(cell_.users + e + n) : load_first(cell_.users + e + n, left);
      const uint32_t other = ~(mask_eq(users, user) & first_lanes(left));
      const int same = __builtin_ctz(other);  // the bits above the lanes are set
      if (same < kLanes || left <= kLanes) return n + same;
    }
  }

  SgdCell cell_;
  int64_t at_ = 0, begin_ = 0;
};

// The entries of users [begin, end), whole rows.
class SgdRowEntries {
 public:
  SgdRowEntries(const SgdProblem& problem, int64_t begin, int64_t end)
      : data_(problem.data), folding_in_(problem.frozen == SgdFrozen::kItems), next_user_(begin), end_(end) {}
  bool next(SgdEntry& out) {
    while (at_ == row_end_) {
      if (next_user_ == end_) return false;
      row_begin_ = at_ = data_.row_ptr[next_user_];
      row_end_ = data_.row_ptr[++next_user_];
    }
    const int64_t e = at_++;
    // A user that is folded in draws the same whoever else is.
    out = {e,
           static_cast<uint64_t>(folding_in_ ? e - row_begin_ : e),
           static_cast<int32_t>(next_user_ - 1),
           data_.col_idx[e],
           data_.values != nullptr ? data_.values[e] : 1.0f,
           {data_.col_idx + row_begin_, row_end_ - row_begin_}};
    return true;
  }

 private:
  const Csr& data_;
  bool folding_in_;
  int64_t next_user_, end_;
  int64_t at_ = 0, row_begin_ = 0, row_end_ = 0;
};

// Turns entries into visits, each as often as its rate says.
template <class Entries>
class SgdVisits {
 public:
  SgdVisits(const SgdProblem& problem, Entries entries) : p_(problem), entries_(entries) {}

  // Fills the batch; it is empty at the end.
  void fill(SgdBatch& batch) {
    batch.n = 0;
    while (batch.n < batch.most) {
      if (visit_ == n_visits_ && !next_entry()) break;
      const uint32_t block = visit_++ * kBlocksPerVisit;
      SgdVisit& visit = batch.visits[batch.n++];
      visit.sample = entry_.sample;
      visit.block = block;
      visit.user = entry_.user;
      visit.item = entry_.item;
      visit.value = entry_.value;
      visit.seen.ids = entry_.seen.ids;
      visit.seen.n = entry_.seen.n;
      visit.negative = -1;
    }
  }

  // The first words of every visit.
  void draw(SgdBatch& batch) const {
    const int n_blocks = batch.n_words / 4;
    int t = 0, of_visit = 0;
    for (int at = 0; at < batch.n * n_blocks; at += kDrawLanes) {
      uint64_t sample[kDrawLanes];
      uint32_t block[kDrawLanes];
      for (int lane = 0; lane < kDrawLanes; ++lane) {
        const SgdVisit& visit = batch.visits[std::min(t, batch.n - 1)];
        sample[lane] = visit.sample;
        block[lane] = visit.block + static_cast<uint32_t>(of_visit);
        if (++of_visit == n_blocks) of_visit = 0, ++t;
      }
      draw4_lanes(p_.seed, p_.epoch, sample, block, batch.words + 4 * at);
    }
  }

 private:
  static constexpr uint32_t kBlocksPerVisit = 1024;  // 4096 words
  static constexpr uint32_t kVisitsWord = 0xFFFFFFFEu;

  bool next_entry() {
    do {
      if (!entries_.next(entry_)) return false;
      visit_ = 0;
      n_visits_ = 1;
      if (p_.rates != nullptr) {
        const double unit = to_unit(recsys_fast::draw(p_.seed, p_.epoch, entry_.sample, kVisitsWord));
        n_visits_ = static_cast<uint32_t>(static_cast<double>(p_.rates[entry_.entry]) + unit);
      }
    } while (n_visits_ == 0);
    return true;
  }

  const SgdProblem& p_;
  Entries entries_;
  SgdEntry entry_{};
  uint32_t visit_ = 0, n_visits_ = 0;
};

}  // namespace recsys_fast
