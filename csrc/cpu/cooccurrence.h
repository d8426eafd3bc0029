// What items have in common with one item: a row of x^T x, sparse, one at a time.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/views.h"

namespace recsys_fast {

// |x_i|^2 of every item; t is x transposed.
inline std::vector<float> squared_norms(const Csr& t) {
  std::vector<float> norms(static_cast<size_t>(t.n_rows));
  for (int64_t i = 0; i < t.n_rows; ++i) {
    double sum = t.values == nullptr ? static_cast<double>(t.row_size(i)) : 0.0;
    for (int64_t e = t.row_ptr[i]; t.values != nullptr && e < t.row_ptr[i + 1]; ++e) {
      sum += static_cast<double>(t.values[e]) * static_cast<double>(t.values[e]);
    }
    norms[static_cast<size_t>(i)] = static_cast<float>(sum);
  }
  return norms;
}

class Cooccurrence {
 public:
  explicit Cooccurrence(const Csr& x)
      : x_(x), sums_(static_cast<size_t>(x.n_cols)), marks_(static_cast<size_t>(x.n_cols), -1) {}

  // items() and sum(): sum_u weight_u x_u over n users; weights null: all 1.
  void gather(const int32_t* users, const float* weights, int64_t n) {
    items_.clear();
    ++mark_;
    for (int64_t e = 0; e < n; ++e) {
      const int64_t u = users[e];
      const float weight = weights == nullptr ? 1.0f : weights[e];
      for (int64_t p = x_.row_ptr[u]; p < x_.row_ptr[u + 1]; ++p) {
        const auto i = static_cast<size_t>(x_.col_idx[p]);
        if (marks_[i] != mark_) {
          marks_[i] = mark_;
          sums_[i] = 0.0f;
          items_.push_back(x_.col_idx[p]);
        }
        sums_[i] += x_.values == nullptr ? weight : weight * x_.values[p];
      }
    }
  }

  const std::vector<int32_t>& items() const { return items_; }
  float sum(int32_t item) const { return sums_[static_cast<size_t>(item)]; }

 private:
  Csr x_;
  std::vector<float> sums_;
  std::vector<int32_t> marks_;
  std::vector<int32_t> items_;
  int32_t mark_ = -1;
};

// Which of a few chosen items every user holds: x restricted to some columns, users that hold none left out.
class UserLists {
 public:
  UserLists(const Csr& t, int64_t n_users)
      : t_(t), first_(static_cast<size_t>(n_users), 0), last_(static_cast<size_t>(n_users), 0) {}

  void build(const std::vector<int32_t>& chosen) {
    clear();
    for (const int32_t i : chosen) {
      for (int64_t e = t_.row_ptr[i]; e < t_.row_ptr[i + 1]; ++e) {
        if (last_[static_cast<size_t>(t_.col_idx[e])]++ == 0) users_.push_back(t_.col_idx[e]);
      }
    }
    int64_t total = 0;
    for (const int32_t user : users_) {
      const auto u = static_cast<size_t>(user);
      first_[u] = total;
      total += last_[u];
      last_[u] = first_[u];
    }
    places_.resize(static_cast<size_t>(total));
    if (t_.values != nullptr) values_.resize(static_cast<size_t>(total));
    for (size_t place = 0; place < chosen.size(); ++place) {
      for (int64_t e = t_.row_ptr[chosen[place]]; e < t_.row_ptr[chosen[place] + 1]; ++e) {
        const auto at = static_cast<size_t>(last_[static_cast<size_t>(t_.col_idx[e])]++);
        places_[at] = static_cast<int32_t>(place);
        if (t_.values != nullptr) values_[at] = t_.values[e];
      }
    }
  }

  void clear() {
    for (const int32_t user : users_) first_[static_cast<size_t>(user)] = last_[static_cast<size_t>(user)] = 0;
    users_.clear();
  }

  const std::vector<int32_t>& users() const { return users_; }
  int64_t begin(int32_t user) const { return first_[static_cast<size_t>(user)]; }
  int64_t end(int32_t user) const { return last_[static_cast<size_t>(user)]; }
  int32_t place(int64_t at) const { return places_[static_cast<size_t>(at)]; }  // ascending within a user
  float value(int64_t at) const { return values_[static_cast<size_t>(at)]; }

 private:
  Csr t_;
  std::vector<int64_t> first_, last_;
  std::vector<int32_t> users_, places_;
  std::vector<float> values_;
};

}  // namespace recsys_fast
