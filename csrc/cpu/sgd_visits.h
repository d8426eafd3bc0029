// The samples of a part of an SGD epoch, in order, a batch at a time with their random words.
#pragma once

#include "core/rng_lanes.h"
#include "cpu/sgd_plan.h"

namespace recsys_fast {

// Visits side by side. sample, block: whose random words a visit uses, from word 4 * block on; value: the entry's, 1
// without values; seen: the user's items in the positive's block.
struct SgdBatch {
  static constexpr int kMost = 64, kMostWords = 1024, kMostWordsOfVisit = 32;
  static constexpr int kSpare = 8;  // rows are written this many at a time
  int n = 0, most = kMost;
  int n_words = 0;  // made of every visit, a multiple of 4
  uint64_t sample[kMost];
  uint32_t block[kMost];
  int32_t user[kMost], item[kMost];
  float value[kMost];
  IdRow seen[kMost + kSpare];
  uint32_t words[kMostWords + 4 * kDrawLanes] = {};

  // wanted: words that a visit will use, most likely.
  explicit SgdBatch(int64_t wanted)
      : n_words(static_cast<int>(std::min<int64_t>((wanted + 3) / 4 * 4, kMostWordsOfVisit))) {
    if (n_words > 0) most = std::min(kMost, kMostWords / n_words);
  }
  const uint32_t* first_words(int t) const { return words + n_words * t; }
  SgdWords words_of(int t, const SgdProblem& p) const {
    return {p.seed, p.epoch, sample[t], block[t], first_words(t), n_words};
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
    const int64_t e = at_++;
    out.entry = cell_.entries[e];
    out.sample = static_cast<uint64_t>(cell_.entries[e]);
    out.user = cell_.users[e];
    out.item = cell_.items[e];
    out.value = cell_.values != nullptr ? cell_.values[e] : 1.0f;
    out.seen = row_of(e, run_length(e));
    return true;
  }

  // The next entries, one visit each.
  void fill(SgdBatch& batch) {
    const int n = static_cast<int>(std::min<int64_t>(batch.most, cell_.n - at_));
    batch.n = n;
    std::copy_n(cell_.entries + at_, n, batch.sample);
    std::fill_n(batch.block, n, 0u);
    std::copy_n(cell_.users + at_, n, batch.user);
    std::copy_n(cell_.items + at_, n, batch.item);
    if (cell_.values != nullptr) {
      std::copy_n(cell_.values + at_, n, batch.value);
    } else {
      std::fill_n(batch.value, n, 1.0f);
    }
    // Bit t: the user's entries end at t. What lies behind the cell is another user's.
    uint64_t ends = 0;
    for (int t = 0; t < n; t += kLanes) {
      const int64_t e = at_ + t, left = cell_.n - e;
      const VecInt users = left >= kLanes ? load(cell_.users + e) : load_first(cell_.users + e, left);
      const VecInt next = left > kLanes ? load(cell_.users + e + 1) : load_first(cell_.users + e + 1, left - 1);
      const uint32_t same = mask_eq(users, next) & first_lanes(left - 1);
      ends |= static_cast<uint64_t>(~same & first_lanes(left)) << t;
    }
    for (int t = 0; t < n;) {
      const uint64_t rest = ends >> t;
      const int64_t length = rest != 0 ? __builtin_ctzll(rest) + 1 : run_length(at_ + t);
      const IdRow seen = row_of(at_ + t, length);
      const int end = static_cast<int>(std::min<int64_t>(t + length, n));
      for (; t < end; t += SgdBatch::kSpare) std::fill_n(batch.seen + t, SgdBatch::kSpare, seen);
      t = end;
    }
    at_ += n;
  }

 private:
  // All items of the user of e, whose entries go on for `length`.
  IdRow row_of(int64_t e, int64_t length) {
    begin_ = cell_.users[begin_] == cell_.users[e] ? begin_ : e;
    return {cell_.items + begin_, e - begin_ + length};
  }
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
    if constexpr (requires { entries_.fill(batch); }) {
      if (p_.rates == nullptr) return entries_.fill(batch);
    }
    batch.n = 0;
    while (batch.n < batch.most) {
      if (visit_ == n_visits_ && !next_entry()) break;
      const int t = batch.n++;
      batch.sample[t] = entry_.sample;
      batch.block[t] = visit_++ * kBlocksPerVisit;
      batch.user[t] = entry_.user;
      batch.item[t] = entry_.item;
      batch.value[t] = entry_.value;
      batch.seen[t] = entry_.seen;
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
        const int visit = std::min(t, batch.n - 1);
        sample[lane] = batch.sample[visit];
        block[lane] = batch.block[visit] + static_cast<uint32_t>(of_visit);
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
