#include "cpu/als_crowd.h"

#include <algorithm>

#include "core/thread_pool.h"
#include "cpu/als_cg.h"

namespace recsys_fast {
namespace {

// What stays in a core's L2 cache during a pass: a block of y, and two vectors of each member.
constexpr int64_t kBlockBytes = int64_t{384} << 10;
constexpr int64_t kMemberBytes = int64_t{512} << 10;
constexpr int64_t kLeastMembers = 64;  // where rows are so wide that fewer would fit
// Entries of a group over rows of y: how often a row is used that is fetched once a pass. Below the least of them
// fetching by blocks gains nothing.
constexpr int64_t kSharing = 12, kLeastSharing = 2;
constexpr int64_t kGroupsPerThread = 4;

// One row of the group on its way: what stays hot during a pass, then what the steps need.
struct Member {
  AlsCgState cg;
  float *scale, *direction, *product;  // direction and product in the terms of y, unscaled
  int64_t begin, entry, end;           // entries: first, next of this pass, past the last
};

// product += sum_i coefficient(i, row_i . direction) row_i over R rows.
template <int R, class Coefficient>
RF_INLINE void add_rows(float* product, const float* const (&row)[R], const float* direction, int64_t dp,
                        Coefficient&& coefficient) {
  Vec sum[R] = {};
  for (int64_t k = 0; k < dp; k += kLanes) {
    const Vec along = load(direction + k);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) sum[i] += load(row[i] + k) * along;
  }
  float inner[R];
  if constexpr (R == 8) {
    reduce_add8(sum, inner);
  } else {
    for (int i = 0; i < R; ++i) inner[i] = reduce_add(sum[i]);
  }
  for (int i = 0; i < R; ++i) inner[i] = coefficient(i, inner[i]);
  for (int64_t k = 0; k < dp; k += kLanes) {
    Vec total = load(product + k);
#pragma GCC unroll 8
    for (int i = 0; i < R; ++i) total += broadcast(inner[i]) * load(row[i] + k);
    store(product + k, total);
  }
}

class Group {
 public:
  Group(const AlsCrowdTask& task, const int32_t* rows, int64_t n)
      : task_(task), dp_(task.d_padded), n_(n), m_(task.y.n), block_(std::max<int64_t>(16, kBlockBytes / (dp_ * 4))) {
    const bool copies = als_incomplete(task.problem, task.y);
    Arena& arena = thread_arena();
    arena.reset(static_cast<size_t>(n) * (7 * Arena::padded<float>(dp_)) + Arena::padded<Member>(n) +
                (copies ? Arena::padded<float>(block_ * dp_) : 0));
    members_ = arena.take<Member>(n);
    for (int64_t i = 0; i < n; ++i) {  // the hot ones of all members side by side
      members_[i].direction = arena.take<float>(dp_);
      members_[i].product = arena.take<float>(dp_);
    }
    tile_ = copies ? arena.take<float>(block_ * dp_) : nullptr;
    for (int64_t i = 0; i < n; ++i) admit(members_[i], rows[i], arena);
  }

  void solve() {
    pass([&](Member& member, const AlsEntry& entry, float s) {
      member.cg.objective += entry.constant + double{s} * (double{entry.weight} * s - 2.0 * entry.target);
      return entry.target - entry.weight * s;
    });
    for (int64_t i = 0; i < n_; ++i) {
      Member& member = members_[i];
      unscale(member, member.cg.r, member.cg.z, -1.0f);
      member.cg.begin(dp_);
    }
    for (int step = 0; step < task_.n_steps; ++step) {
      for (int64_t i = 0; i < n_; ++i) {
        Member& member = members_[i];
        for (int64_t k = 0; k < dp_; ++k) member.direction[k] = member.scale[k] * member.cg.p[k];
      }
      pass([](Member&, const AlsEntry& entry, float s) { return entry.weight * s; });
      for (int64_t i = 0; i < n_; ++i) {
        Member& member = members_[i];
        if (!member.cg.open) continue;
        unscale(member, member.cg.q, member.cg.p, 1.0f);
        member.cg.step(dp_);
      }
    }
  }

  // x <- z of member i, unless that is not a number. Returns the objective.
  double write(int64_t i, float* x) const {
    const Member& member = members_[i];
    if (!std::isfinite(member.cg.objective)) return NAN;
    for (int64_t k = 0; k < task_.y.d; ++k) x[k] = member.cg.z[k] * member.scale[k];
    return member.cg.objective;
  }

 private:
  void admit(Member& member, int64_t u, Arena& arena) const {
    const int64_t d = task_.y.d;
    member.scale = arena.take<float>(dp_);
    member.cg = {arena.take<float>(dp_),
                 arena.take<float>(dp_),
                 arena.take<float>(dp_),
                 arena.take<float>(dp_),
                 0.0,
                 0.0f,
                 0.0f,
                 true};
    member.begin = member.entry = task_.matrix.row_ptr[u];
    member.end = task_.matrix.row_ptr[u + 1];
    als_scale(member.scale, task_.problem, task_.unobserved, task_.matrix.row_size(u), task_.y, task_.floor);
    std::copy_n(task_.x.row(u), d, member.direction);
    std::fill(member.direction + d, member.direction + dp_, 0.0f);
    for (int64_t k = 0; k < d; ++k) member.cg.z[k] = member.direction[k] / member.scale[k];
    std::fill(member.cg.z + d, member.cg.z + dp_, 0.0f);
  }

  // out = scale * product + sign * z
  void unscale(const Member& member, float* out, const float* z, float sign) const {
    for (int64_t k = 0; k < dp_; ++k) out[k] = member.scale[k] * member.product[k] + sign * z[k];
  }

  // product of each open member = sum_j coefficient(j, y_j . direction) y_j, over one pass through y.
  template <class Coefficient>
  void pass(Coefficient&& coefficient) {
    for (int64_t i = 0; i < n_; ++i) {
      Member& member = members_[i];
      std::fill_n(member.product, dp_, 0.0f);
    }
    for (int64_t first = 0; first < m_; first += block_) {
      const int64_t last = std::min(m_, first + block_);
      const float* rows = task_.y.row(first);
      if (tile_ != nullptr) {
        copy_block(first, last);
        rows = tile_;
      }
      check_interrupt();
      for (int64_t i = 0; i < n_; ++i) {
        // The next block, a piece with each member.
        const int64_t next = last + block_ * i / n_, past = std::min(m_, last + block_ * (i + 1) / n_);
        if (next < past) prefetch(task_.y.row(next), (past - next) * task_.y.d * 4);
        if (members_[i].cg.open) run(members_[i], rows, first, last, coefficient);
      }
    }
    for (int64_t i = 0; i < n_; ++i) members_[i].entry = members_[i].begin;
  }

  // The entries of a member whose columns lie below `last`; row `first` of y is at `rows`.
  template <class Coefficient>
  RF_INLINE void run(Member& member, const float* rows, int64_t first, int64_t last, Coefficient&& coefficient) const {
    const int32_t* col = task_.matrix.col_idx;
    int64_t j = member.entry;
    const auto group = [&]<int R>() __attribute__((always_inline)) {
      const float* row[R];
      for (int i = 0; i < R; ++i) row[i] = rows + (col[j + i] - first) * dp_;
      add_rows<R>(member.product, row, member.direction, dp_, [&](int i, float s) {
        return coefficient(member, als_entry(task_.problem, task_.y, col, j + i), s);
      });
      j += R;
    };
    while (j + 8 <= member.end && col[j + 7] < last) group.template operator()<8>();
    if (j + 4 <= member.end && col[j + 3] < last) group.template operator()<4>();
    if (j + 2 <= member.end && col[j + 1] < last) group.template operator()<2>();
    if (j < member.end && col[j] < last) group.template operator()<1>();
    member.entry = j;
  }

  void copy_block(int64_t first, int64_t last) const {
    for (int64_t i = first; i < last; ++i) {
      als_complete(tile_ + (i - first) * dp_, task_.y.row(i), task_.problem, task_.y.d);
    }
  }

  const AlsCrowdTask& task_;
  int64_t dp_, n_, m_, block_;
  Member* members_;
  float* tile_;
};

bool ascends(const Csr& matrix, int64_t u) {
  bool sorted = true;
  for (int64_t j = matrix.row_ptr[u] + 1; j < matrix.row_ptr[u + 1]; ++j) {
    sorted &= matrix.col_idx[j - 1] <= matrix.col_idx[j];
  }
  return sorted;
}

}  // namespace

AlsCrowd::AlsCrowd(const Csr& matrix, int64_t longest_alone, int64_t d_padded, int n_threads)
    : bounds{0}, member(static_cast<size_t>(matrix.n_rows), false) {
  std::vector<int32_t> candidates;
  int64_t n_entries = 0;
  for (int64_t u = 0; u < matrix.n_rows; ++u) {
    if (matrix.row_size(u) <= longest_alone) continue;
    candidates.push_back(static_cast<int32_t>(u));
    n_entries += matrix.row_size(u);
  }
  if (n_entries < kLeastSharing * matrix.n_cols) return;
  std::vector<char> fits(candidates.size());
  parallel_for(std::ssize(candidates), 16, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) fits[i] = ascends(matrix, candidates[i]);
  });
  int64_t n_kept = 0;
  for (int64_t i = 0; i < std::ssize(candidates); ++i) {
    if (fits[i]) candidates[n_kept++] = candidates[i];
  }
  candidates.resize(n_kept);
  std::stable_sort(candidates.begin(), candidates.end(),
                   [&](int32_t a, int32_t b) { return matrix.row_size(a) > matrix.row_size(b); });
  // Who is in is settled by windows of as many rows as a group may have, whatever the number of threads.
  const size_t most = static_cast<size_t>(std::max(kLeastMembers, kMemberBytes / (2 * 4 * d_padded)));
  n_entries = 0;
  for (size_t at = 0; at < candidates.size(); at += most) {
    const size_t end = std::min(candidates.size(), at + most);
    int64_t entries = 0;
    for (size_t i = at; i < end; ++i) entries += matrix.row_size(candidates[i]);
    if (entries < kLeastSharing * matrix.n_cols) break;
    rows.insert(rows.end(), candidates.begin() + at, candidates.begin() + end);
    n_entries += entries;
  }
  const int64_t share = n_entries / (kGroupsPerThread * n_threads);
  const int64_t enough = std::clamp(share, kLeastSharing * matrix.n_cols, kSharing * matrix.n_cols);
  for (size_t at = 0; at < rows.size();) {
    int64_t entries = 0;
    const size_t begin = at;
    while (at < rows.size() && at < begin + most && entries < enough) entries += matrix.row_size(rows[at++]);
    bounds.push_back(static_cast<int64_t>(at));
  }
  for (const int32_t u : rows) member[u] = true;
}

void als_cg_crowd(const AlsCrowdTask& task, const int32_t* rows, int64_t n, double* objectives) {
  Group group(task, rows, n);
  group.solve();
  for (int64_t i = 0; i < n; ++i) objectives[i] = group.write(i, task.x.row(rows[i]));
}

}  // namespace recsys_fast
