#include "ops/rank_metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/thread_pool.h"
#include "cpu/id_row.h"
#include "cpu/topk_scan.h"

namespace recsys_fast {
namespace {

// Writes the metrics of one list after another.
class MetricSink : public RankSink {
 public:
  MetricSink(double* out, Csr test, const int32_t* ks, int64_t n_ks)
      : out_(out), test_(test), ks_(ks), n_ks_(n_ks), by_size_(static_cast<size_t>(n_ks)) {
    std::iota(by_size_.begin(), by_size_.end(), 0);
    std::sort(by_size_.begin(), by_size_.end(), [&](int64_t a, int64_t b) { return ks[a] < ks[b]; });
    discounts_.resize(static_cast<size_t>(longest()));
    ideal_.resize(discounts_.size() + 1, 0.0);
    for (size_t rank = 0; rank < discounts_.size(); ++rank) {
      discounts_[rank] = 1.0 / std::log2(static_cast<double>(rank) + 2.0);
      ideal_[rank + 1] = ideal_[rank] + discounts_[rank];
    }
  }

  int64_t longest() const { return n_ks_ == 0 ? 0 : ks_[by_size_.back()]; }

  // One walk down the list; the metrics at k are written when it gets there.
  void take(int64_t user, const int32_t* ids, const float*, int64_t n) override {
    const IdRow relevant{test_.col_idx + test_.row_ptr[user], test_.row_size(user)};
    Sums sums;
    int64_t place = 0;
    for (const int64_t c : by_size_) {
      for (; place < std::min<int64_t>(n, ks_[c]); ++place) {
        if (!relevant.contains(ids[place])) continue;
        ++sums.hits;
        sums.gain += discounts_[static_cast<size_t>(place)];
        sums.precisions += static_cast<double>(sums.hits) / static_cast<double>(place + 1);
        if (sums.first == 0) sums.first = place + 1;
      }
      write(out_ + user * kRankMetrics * n_ks_ + c, sums, ks_[c], relevant.n);
    }
  }

  void take_nothing(int64_t user) {
    std::fill_n(out_ + user * kRankMetrics * n_ks_, kRankMetrics * n_ks_, std::numeric_limits<double>::quiet_NaN());
  }

 private:
  struct Sums {
    int64_t hits = 0, first = 0;
    double gain = 0.0, precisions = 0.0;
  };

  void write(double* out, const Sums& sums, int64_t k, int64_t n_relevant) const {
    const auto hits = static_cast<double>(sums.hits);
    const int64_t most = std::min(k, n_relevant);
    const double values[kRankMetrics] = {
        hits / static_cast<double>(k),
        hits / static_cast<double>(n_relevant),
        2.0 * hits / static_cast<double>(k + n_relevant),
        sums.hits > 0 ? 1.0 : 0.0,
        sums.gain / ideal_[static_cast<size_t>(most)],
        sums.first > 0 ? 1.0 / static_cast<double>(sums.first) : 0.0,
        sums.precisions / static_cast<double>(most),
    };
    for (int64_t metric = 0; metric < kRankMetrics; ++metric) out[metric * n_ks_] = values[metric];
  }

  double* out_;
  Csr test_;
  const int32_t* ks_;
  int64_t n_ks_;
  std::vector<int64_t> by_size_;           // indices of ks, ascending by k
  std::vector<double> discounts_, ideal_;  // by rank - 1; sums of the first n discounts
};

}  // namespace

template <>
void rank_metrics<Cpu>(double* out, Rows<const float> queries, Rows<const float> items, const Eligible& eligible,
                       Csr test, const int32_t* ks, int64_t n_ks, int n_threads) {
  MetricSink sink(out, test, ks, n_ks);
  std::vector<int32_t> wanted;
  for (int64_t user = 0; user < queries.n; ++user) {
    if (test.row_size(user) > 0) {
      wanted.push_back(static_cast<int32_t>(user));
    } else {
      sink.take_nothing(user);
    }
  }
  const RankTask task{queries, items, eligible, sink.longest(), wanted.data(), std::ssize(wanted)};
  rank_items(task, sink, n_threads);
}

template <>
void list_metrics<Cpu>(double* out, Rows<const int32_t> ids, Csr test, const int32_t* ks, int64_t n_ks, int n_threads) {
  MetricSink sink(out, test, ks, n_ks);
  parallel_for(ids.n, 256, n_threads, [&](int64_t begin, int64_t end, int) {
    for (int64_t user = begin; user < end; ++user) {
      if (test.row_size(user) > 0) {
        sink.take(user, ids.row(user), nullptr, ids.d);
      } else {
        sink.take_nothing(user);
      }
    }
  });
}

}  // namespace recsys_fast
