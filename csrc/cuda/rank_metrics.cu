#include "ops/rank_metrics.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cuda/id_row.h"
#include "cuda/rank_finish.h"
#include "cuda/rank_key.h"
#include "cuda/topk_scan.h"

namespace recsys_fast {
namespace {

constexpr int kThreads = 256;

// What one cut of one list has seen so far.
struct HitSums {
  int64_t hits = 0, first = 0;
  double gain = 0.0, precisions = 0.0;
};

// Everything that turns hits into metrics; on the device.
struct Metrics {
  double* out;
  Csr test;
  const int32_t* ks;
  int64_t n_ks;
  const double* discounts;  // by rank - 1
  const double* ideal;      // sums of the first n discounts

  // By one warp: a lane per cut, which adds hits up in the order of the list, as one thread would. is_hit(place) is
  // asked once per place below n and round of 32 cuts.
  template <class IsHit>
  __device__ void write(int64_t user, int64_t n, IsHit&& is_hit) const {
    const int lane = static_cast<int>(threadIdx.x % 32);
    const int64_t n_relevant = test.row_size(user);
    for (int64_t base = 0; base < n_ks; base += 32) {
      const int64_t k = base + lane < n_ks ? ks[base + lane] : 0;
      HitSums sums;
      for (int64_t at = 0; at < n; at += 32) {
        unsigned hits = __ballot_sync(kFullMask, at + lane < n && is_hit(at + lane));
        for (; hits != 0; hits &= hits - 1) {
          const int64_t place = at + __ffs(static_cast<int>(hits)) - 1;
          if (place < k) add(sums, place);
        }
      }
      if (k > 0) write_cut(out + user * kRankMetrics * n_ks + base + lane, sums, k, n_relevant);
    }
  }

  __device__ void add(HitSums& sums, int64_t place) const {
    ++sums.hits;
    sums.gain += discounts[place];
    sums.precisions += static_cast<double>(sums.hits) / static_cast<double>(place + 1);
    if (sums.first == 0) sums.first = place + 1;
  }

  __device__ void write_cut(double* to, const HitSums& sums, int64_t k, int64_t n_relevant) const {
    const auto hits = static_cast<double>(sums.hits);
    const int64_t most = min(k, n_relevant);
    to[0 * n_ks] = hits / static_cast<double>(k);
    to[1 * n_ks] = hits / static_cast<double>(n_relevant);
    to[2 * n_ks] = 2.0 * hits / static_cast<double>(k + n_relevant);
    to[3 * n_ks] = sums.hits > 0 ? 1.0 : 0.0;
    to[4 * n_ks] = sums.gain / ideal[most];
    to[5 * n_ks] = sums.first > 0 ? 1.0 / static_cast<double>(sums.first) : 0.0;
    to[6 * n_ks] = sums.precisions / static_cast<double>(most);
  }

  __device__ IdRow relevant(int64_t user) const { return {test.col_idx + test.row_ptr[user], test.row_size(user)}; }
};

// The tables of the metrics, made on the host so that they have its logarithms, and the cuts, which it has to know.
class MetricTables {
 public:
  MetricTables(const int32_t* ks, int64_t n_ks, Stream stream) {
    std::vector<int32_t> cuts(static_cast<size_t>(n_ks));
    copy_to_host(cuts.data(), ks, n_ks, stream);
    for (const int32_t k : cuts) longest_ = std::max<int64_t>(longest_, k);
    std::vector<double> tables(static_cast<size_t>(2 * longest_ + 1), 0.0);
    double* ideal = tables.data() + longest_;
    for (int64_t rank = 0; rank < longest_; ++rank) {
      tables[static_cast<size_t>(rank)] = 1.0 / std::log2(static_cast<double>(rank) + 2.0);
      ideal[rank + 1] = ideal[rank] + tables[static_cast<size_t>(rank)];
    }
    tables_ = DeviceBuffer<double>(2 * longest_ + 1, stream);
    copy_to_device(tables_.data(), tables.data(), 2 * longest_ + 1, stream);
  }

  int64_t longest() const { return longest_; }
  const double* discounts() const { return tables_.data(); }
  const double* ideal() const { return tables_.data() + longest_; }

 private:
  int64_t longest_ = 0;
  DeviceBuffer<double> tables_;
};

struct MetricSink {
  Metrics metrics;

  // All threads look their places up and leave what they find instead of the keys; then one warp adds up.
  template <class Keys>
  __device__ void take(const BlockTeam& team, int64_t user, const Keys& keys, uint32_t n) const {
    const IdRow relevant = metrics.relevant(user);
    for (uint32_t j = team.rank(); j < n; j += team.size()) {
      const int32_t id = key_id(keys[j]);
      keys[j] = relevant.contains(id) ? 1 : 0;
    }
    team.sync();
    if (team.rank() < 32) {
      metrics.write(user, n, [&](int64_t place) {
        const uint64_t hit = keys[place];
        return hit != 0;
      });
    }
  }
};

// out (n) = NaN.
__global__ void __launch_bounds__(kThreads) no_metrics_kernel(double* out, int64_t n) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < n) out[i] = NAN;
}

// A warp per list.
__global__ void __launch_bounds__(kThreads) list_metrics_kernel(Metrics metrics, Rows<const int32_t> ids) {
  const int64_t user = (int64_t{blockIdx.x} * kThreads + threadIdx.x) / 32;
  if (user >= ids.n || metrics.test.row_size(user) == 0) return;
  const IdRow relevant = metrics.relevant(user);
  metrics.write(user, ids.d, [&](int64_t place) { return relevant.contains(ids.row(user)[place]); });
}

void fill_nan(double* out, int64_t n, Stream stream) {
  if (n > 0) launch(no_metrics_kernel, dim3(blocks_for(n, kThreads)), dim3(kThreads), 0, stream, out, n);
}

// Users with test items, in order. Found on the host: one number a user there and half of one back.
std::vector<int32_t> users_with_items(const Csr& test, Stream stream) {
  std::vector<int64_t> row_ptr(static_cast<size_t>(test.n_rows + 1));
  copy_to_host(row_ptr.data(), test.row_ptr, test.n_rows + 1, stream);
  std::vector<int32_t> users;
  for (size_t user = 0; user + 1 < row_ptr.size(); ++user) {
    if (row_ptr[user] < row_ptr[user + 1]) users.push_back(static_cast<int32_t>(user));
  }
  return users;
}

}  // namespace

template <>
void list_metrics<Cuda>(double* out, Rows<const int32_t> ids, Csr test, const int32_t* ks, int64_t n_ks, int) {
  if (ids.n == 0 || n_ks == 0) return;
  const Stream stream = current_stream();
  fill_nan(out, ids.n * kRankMetrics * n_ks, stream);
  const MetricTables tables(ks, n_ks, stream);
  const Metrics metrics = {out, test, ks, n_ks, tables.discounts(), tables.ideal()};
  launch(list_metrics_kernel, dim3(blocks_for(ids.n, kThreads / 32)), dim3(kThreads), 0, stream, metrics, ids);
}

template <>
void rank_metrics<Cuda>(double* out, Rows<const float> queries, Rows<const float> items, const Eligible& eligible,
                        Csr test, const int32_t* ks, int64_t n_ks, int n_threads) {
  if (queries.n == 0 || n_ks == 0) return;
  const Stream stream = current_stream();
  fill_nan(out, queries.n * kRankMetrics * n_ks, stream);
  const MetricTables tables(ks, n_ks, stream);
  const std::vector<int32_t> users = users_with_items(test, stream);
  const auto n_users = static_cast<int64_t>(users.size());
  if (n_users == 0) return;
  DeviceBuffer<int32_t> wanted(n_users, stream);
  copy_to_device(wanted.data(), users.data(), n_users, stream);
  RankTask task = {queries, items, eligible, 0, wanted.data(), n_users};
  task.k = std::min(tables.longest(), task.n_candidates());
  if (task.k == 0) {  // nothing to rank
    return list_metrics<Cuda>(out, {nullptr, queries.n, 0}, test, ks, n_ks, n_threads);
  }
  const MetricSink sink{{out, test, ks, n_ks, tables.discounts(), tables.ideal()}};
  scan_batches(task, [&](const RankBatch& batch) { finish_batch(batch, sink, stream); }, stream);
}

}  // namespace recsys_fast
