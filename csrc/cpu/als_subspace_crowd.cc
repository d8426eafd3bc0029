// iALS++ over many long rows at once: block after block of columns, and within it tile after tile of y, copied once for
// all members of a group. A row on its own would fetch its columns from far away again in each block.
#include <algorithm>

#include "core/thread_pool.h"
#include "cpu/als_block.h"
#include "cpu/als_crowd.h"

namespace recsys_fast {
namespace {

constexpr int kTogether = AlsPanel::kTogether;
constexpr int64_t kTileBytes = int64_t{384} << 10;  // stays in a core's L2 cache
constexpr int64_t kLeastVisit = 32;                 // entries per tile that are worth fetching a member's system

// Rows of y per tile: a block's columns and those of the one before it.
int64_t rows_per_tile(int64_t block) { return std::max<int64_t>(kTogether, kTileBytes / (2 * block * 4)); }

struct Member {
  AlsBlockRow row;
  int64_t begin, entry, end;  // entries: first, next of this block, past the last
};

class Group {
 public:
  Group(const AlsCrowdTask& task, const int32_t* rows, int64_t n)
      : task_(task),
        n_(n),
        dp_(task.d_padded),
        arena_(reserve(task, rows, n)),
        panel_(task.block, task.problem.weights != nullptr, arena_),
        incomplete_(als_incomplete(task.problem, task.y)),
        members_(arena_.take<Member>(n)),
        tile_(arena_.take<float>(tile_floats(task))),
        step_(arena_.take<float>(task.block)),
        inv_(arena_.take<float>(task.block)) {
    for (int64_t i = 0; i < n; ++i) admit(members_[i], rows[i]);
  }

  void solve() {
    AlsBlock at{0, dp_, 0, 0};
    for (int pass = 0; pass < task_.n_steps; ++pass) {
      for (int64_t first = 0; first < dp_; first += task_.block) {
        at = at.next(first, task_.block, dp_);
        for (int64_t i = 0; i < n_; ++i) members_[i].row.begin_block(at);
        const bool pair = at.width == 2 * kLanes;
        if (at.starts(dp_)) {
          pair ? visit<2, true>(at) : visit<0, true>(at);
        } else {
          pair&& at.to - at.from == at.width ? visit<2, false>(at) : visit<0, false>(at);
        }
        for (int64_t i = 0; i < n_; ++i) {
          members_[i].row.end_block(at, step_, inv_);
          members_[i].entry = members_[i].begin;
        }
      }
    }
  }

  // x <- solution of member i, unless that is not a number. Returns the objective.
  double write(int64_t i, float* x) const {
    const AlsBlockRow& row = members_[i].row;
    if (!std::isfinite(row.objective)) return NAN;
    for (int64_t k = 0; k < task_.y.d; ++k) x[k] = row.z[k] * row.scale[k];
    return row.objective;
  }

 private:
  static size_t tile_floats(const AlsCrowdTask& task) {
    return static_cast<size_t>(std::max(rows_per_tile(task.block) * 2 * task.block, kTogether * task.d_padded));
  }

  static Arena& reserve(const AlsCrowdTask& task, const int32_t* rows, int64_t n) {
    size_t bytes = static_cast<size_t>(AlsPanel::bytes(task.block)) + Arena::padded<Member>(n) +
                   Arena::padded<float>(tile_floats(task)) + 2 * Arena::padded<float>(task.block);
    bytes += static_cast<size_t>(n) *
             (3 * Arena::padded<float>(task.d_padded) + Arena::padded<float>(AlsBlockRow::system_floats(task.block)));
    for (int64_t i = 0; i < n; ++i) bytes += Arena::padded<float>(task.matrix.row_size(rows[i]));
    Arena& arena = thread_arena();
    arena.reset(bytes);
    return arena;
  }

  void admit(Member& member, int64_t u) const {
    const int64_t d = task_.y.d;
    member.begin = member.entry = task_.matrix.row_ptr[u];
    member.end = task_.matrix.row_ptr[u + 1];
    float *scale = arena_.take<float>(dp_), *z = arena_.take<float>(dp_), *pending = arena_.take<float>(dp_);
    float* prediction = arena_.take<float>(member.end - member.begin);
    float* system = arena_.take<float>(AlsBlockRow::system_floats(task_.block));
    als_scale(scale, task_.problem, task_.unobserved, task_.matrix.row_size(u), task_.y, task_.floor);
    for (int64_t k = 0; k < d; ++k) z[k] = task_.x.row(u)[k] / scale[k];
    std::fill(z + d, z + dp_, 0.0f);
    double constant = 0.0;
    for (int64_t j = member.begin; j < member.end; ++j) {
      constant += als_entry(task_.problem, task_.y, task_.matrix.col_idx, j).constant;
    }
    member.row = {scale, z, pending, prediction, system, 0.0};
    member.row.begin(member.end - member.begin, dp_, constant);
  }

  // Adds all entries of all members to their systems.
  template <int V, bool Start>
  void visit(const AlsBlock& at) {
    const int64_t m = task_.y.n, before = at.to - at.from, stride = Start ? dp_ : before + at.width;
    const int64_t n_rows = static_cast<int64_t>(tile_floats(task_)) / stride;
    for (int64_t first = 0; first < m; first += n_rows) {
      const int64_t last = std::min(m, first + n_rows);
      check_interrupt();
      const float* tile = Start && !incomplete_ ? task_.y.row(first) : tile_;
      if (tile == tile_) copy_tile<Start>(at, first, last, stride);
      for (int64_t i = 0; i < n_; ++i) {
        if (Start && !incomplete_) {  // the next tile, a piece with each member
          const int64_t next = last + n_rows * i / n_, past = std::min(m, last + n_rows * (i + 1) / n_);
          if (next < past) prefetch(task_.y.row(next), (past - next) * dp_ * 4);
        }
        add_entries<V, Start>(members_[i], at, tile - first * stride, stride, last);
      }
    }
  }

  // The entries of a member whose columns lie below `last`; row r of y's columns is at tile + r * stride.
  template <int V, bool Start>
  void add_entries(Member& member, const AlsBlock& at, const float* tile, int64_t stride, int64_t last) {
    const int32_t* col = task_.matrix.col_idx;
    const int64_t offset = Start ? 0 : at.to - at.from;
    const bool alike = task_.problem.weights == nullptr && task_.problem.targets == nullptr;
    float weight[kTogether], target[kTogether];
    std::fill_n(weight, kTogether, 1.0f);
    std::fill_n(target, kTogether, 1.0f + task_.problem.target_offset);
    int64_t filled = 0, j = member.entry;
    while (j < member.end && col[j] < last) {
      int count = static_cast<int>(std::min<int64_t>(kTogether, member.end - j));
      while (col[j + count - 1] >= last) --count;
      const float* source[kTogether];
      for (int e = 0; e < kTogether; ++e) source[e] = tile + col[j + std::min(e, count - 1)] * stride;
      if (!alike) {
        for (int e = 0; e < count; ++e) {
          const AlsEntry entry = als_entry(task_.problem, task_.y, col, j + e);
          weight[e] = entry.weight;
          target[e] = entry.target;
        }
      }
      panel_.put<V, Start>(filled, count, source, offset, at, member.row, member.row.prediction + (j - member.begin),
                           weight, target);
      filled += count;
      j += count;
      if (filled + kTogether > panel_.rows) {
        panel_.add_products<V>(member.row.system, at.width, filled);
        filled = 0;
      }
    }
    if (filled > 0) panel_.add_products<V>(member.row.system, at.width, filled);
    member.entry = j;
  }

  // Rows [first, last) of y into the tile: all columns, or those of the block before and then the block's.
  template <bool Start>
  void copy_tile(const AlsBlock& at, int64_t first, int64_t last, int64_t stride) {
    constexpr int64_t kAhead = 32;
    const Rows<const float>& y = task_.y;
    const int64_t before = at.to - at.from;
    for (int64_t i = first; i < last; ++i) {
      float* out = tile_ + (i - first) * stride;
      if (Start) {
        als_complete(out, y.row(i), task_.problem, y.d);
        continue;
      }
      if (i + kAhead < y.n) {
        prefetch(y.row(i + kAhead) + at.from, std::min(before, y.d - at.from) * 4);
        prefetch(y.row(i + kAhead) + at.first, std::min(at.width, y.d - at.first) * 4);
      }
      copy_columns(out, i, at.from, before);
      copy_columns(out + before, i, at.first, at.width);
    }
  }

  RF_INLINE void copy_columns(float* out, int64_t i, int64_t first, int64_t width) const {
    const int64_t d = task_.y.d, whole = std::min(width, (d - first) / kLanes * kLanes);
    const float* source = task_.y.row(i) + first;
    for (int64_t k = 0; k < whole; k += kLanes) store(out + k, load(source + k));
    for (int64_t k = whole; k < width; ++k) out[k] = first + k < d ? source[k] : 0.0f;
    if (task_.problem.biased && d - 1 >= first && d - 1 < first + width) out[d - 1 - first] = 1.0f;
  }

  const AlsCrowdTask& task_;
  const int64_t n_, dp_;
  Arena& arena_;
  AlsPanel panel_;
  const bool incomplete_;
  Member* members_;
  float *tile_, *step_, *inv_;
};

}  // namespace

int64_t als_subspace_longest_alone(int64_t n_cols, int64_t block) {
  return n_cols * kLeastVisit / rows_per_tile(block);
}

void als_subspace_crowd(const AlsCrowdTask& task, const int32_t* rows, int64_t n, double* objectives) {
  Group group(task, rows, n);
  group.solve();
  for (int64_t i = 0; i < n; ++i) objectives[i] = group.write(i, task.x.row(rows[i]));
}

}  // namespace recsys_fast
