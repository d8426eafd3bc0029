#include "cpu/sgd_plan.h"

#include "core/arena.h"
#include "core/thread_pool.h"

namespace recsys_fast {
namespace {

constexpr uint64_t kItemSamples = uint64_t{1} << 62;  // the hash of item i is a draw of sample 2^62 + i
constexpr int kRowsAhead = 4;
constexpr size_t kKeptBytes = size_t{64} << 20;

// Of the calling thread: fresh memory for the entries would cost a small epoch several per cent in page faults.
Arena& plan_arena() {
  thread_local Arena arena;
  return arena;
}

}  // namespace

SgdPlan::SgdPlan(const SgdProblem& problem, int n_blocks, const double* cdf, int n_threads)
    : n_blocks_(n_blocks), cdf_(cdf) {
  const auto n_users = static_cast<size_t>(problem.data.n_rows), n_items = static_cast<size_t>(problem.data.n_cols);
  const auto nnz = static_cast<size_t>(problem.data.nnz());
  Arena& arena = plan_arena();
  arena.reset(Arena::padded<int32_t>(n_users) + Arena::padded<int32_t>(n_items) + Arena::padded<uint8_t>(n_users) +
              Arena::padded<uint8_t>(n_items) + (cdf != nullptr ? Arena::padded<double>(n_items) : 0) +
              2 * Arena::padded<int32_t>(nnz) + Arena::padded<int64_t>(nnz) +
              (problem.data.values != nullptr ? Arena::padded<float>(nnz) : 0));
  user_members_.ids = arena.take<int32_t>(n_users);
  item_members_.ids = arena.take<int32_t>(n_items);
  auto* user_block = arena.take<uint8_t>(n_users);
  item_block_ = arena.take<uint8_t>(n_items);
  hash(user_block, problem.data.n_rows, 0, problem, n_threads);
  hash(item_block_, problem.data.n_cols, kItemSamples, problem, n_threads);
  group(user_members_, user_block, problem.data.n_rows);
  group(item_members_, item_block_, problem.data.n_cols);
  if (cdf != nullptr) {
    sums_ = arena.take<double>(n_items);
    sum_weights(n_threads);
  }
  users_ = arena.take<int32_t>(nnz);
  items_ = arena.take<int32_t>(nnz);
  entries_ = arena.take<int64_t>(nnz);
  if (problem.data.values != nullptr) values_ = arena.take<float>(nnz);
  order_entries(problem, n_threads);
}

SgdPlan::~SgdPlan() {
  if (plan_arena().size() > kKeptBytes) plan_arena().reset(0);
}

void SgdPlan::hash(uint8_t* block, int64_t n, uint64_t first_sample, const SgdProblem& problem, int n_threads) const {
  constexpr uint32_t kWord = 0xFFFFFFFFu;
  parallel_for(n, 4096, n_threads, [&](int64_t begin, int64_t end, int) {
    uint64_t sample[kDrawLanes];
    uint32_t blocks[kDrawLanes], words[4 * kDrawLanes];
    std::fill_n(blocks, kDrawLanes, kWord / 4);
    for (int64_t i = begin; i < end; i += kDrawLanes) {
      for (int lane = 0; lane < kDrawLanes; ++lane) sample[lane] = first_sample + static_cast<uint64_t>(i + lane);
      draw4_lanes(problem.seed, problem.epoch, sample, blocks, words);
      const int64_t n_lanes = std::min<int64_t>(kDrawLanes, end - i);
      for (int64_t lane = 0; lane < n_lanes; ++lane) {
        block[i + lane] = static_cast<uint8_t>(to_range(words[4 * lane + kWord % 4], n_blocks_));
      }
    }
  });
}

void SgdPlan::group(Members& out, const uint8_t* block, int64_t n) const {
  int64_t at[kMostBlocks] = {};
  for (int64_t i = 0; i < n; ++i) ++at[block[i]];
  int64_t begin = 0;
  for (int b = 0; b < n_blocks_; ++b) {
    out.begin[b] = begin;
    begin += at[b];
    at[b] = out.begin[b];
  }
  out.begin[n_blocks_] = begin;
  for (int64_t i = 0; i < n; ++i) out.ids[at[block[i]]++] = static_cast<int32_t>(i);
}

void SgdPlan::sum_weights(int n_threads) {
  parallel_for(n_blocks_, 1, n_threads, [&](int64_t b, int64_t, int) {
    double sum = 0.0;
    for (int64_t t = item_members_.begin[b]; t < item_members_.begin[b + 1]; ++t) {
      const int32_t i = item_members_.ids[t];
      sum += i > 0 ? cdf_[i] - cdf_[i - 1] : cdf_[0];
      sums_[t] = sum;
    }
  });
}

// Every user block's entries by item block, a counting sort that keeps the order of users and of columns.
void SgdPlan::order_entries(const SgdProblem& problem, int n_threads) {
  const Csr& data = problem.data;
  const auto for_entries = [&](int64_t user_block, auto&& use) {
    const int64_t end = user_members_.begin[user_block + 1];
    for (int64_t t = user_members_.begin[user_block]; t < end; ++t) {
      const int32_t user = user_members_.ids[t];
      // The rows of a block are not neighbours: without this each would be waited for.
      __builtin_prefetch(data.row_ptr + user_members_.ids[std::min(t + 2 * kRowsAhead, end - 1)]);
      const int32_t* const row = data.col_idx + data.row_ptr[user_members_.ids[std::min(t + kRowsAhead, end - 1)]];
      for (int line = 0; line < 3; ++line) __builtin_prefetch(row + 16 * line);
      for (int64_t e = data.row_ptr[user]; e < data.row_ptr[user + 1]; ++e) use(user, data.col_idx[e], e);
    }
  };
  int64_t counts[kMostBlocks * kMostBlocks] = {};
  parallel_for(n_blocks_, 1, n_threads, [&](int64_t b, int64_t, int) {
    int64_t count[kMostBlocks] = {};
    for_entries(b, [&](int32_t, int32_t item, int64_t) { ++count[item_block_[item]]; });
    std::copy_n(count, n_blocks_, counts + b * n_blocks_);
  });
  cell_begin_[0] = 0;
  for (int c = 0; c < n_blocks_ * n_blocks_; ++c) cell_begin_[c + 1] = cell_begin_[c] + counts[c];
  parallel_for(n_blocks_, 1, n_threads, [&](int64_t b, int64_t, int) {
    int64_t at[kMostBlocks];
    std::copy_n(cell_begin_ + b * n_blocks_, n_blocks_, at);
    for_entries(b, [&](int32_t user, int32_t item, int64_t entry) {
      const int64_t e = at[item_block_[item]]++;
      users_[e] = user;
      items_[e] = item;
      entries_[e] = entry;
      if (values_ != nullptr) values_[e] = data.values[entry];
    });
  });
}

}  // namespace recsys_fast
