// SGD epochs on one thread and on several: the same bits, and nothing for the thread sanitizer to find. The lock-free
// variant races on purpose, so it runs on one thread here.
#include <algorithm>
#include <cstring>
#include <set>

#include "check.h"
#include "core/rng_lanes.h"
#include "core/sigmoid.h"
#include "cpu/sgd_sampler.h"
#include "ops/sgd.h"

namespace recsys_fast {
namespace {

using test::uniform;

constexpr int64_t kUsers = 2500, kItems = 2100;

struct Sparse {
  std::vector<int64_t> row_ptr{0};
  std::vector<int32_t> col_idx;
  std::vector<float> values;
  std::vector<float> rates;

  Sparse(int64_t n_rows, int64_t n_cols, uint32_t most, uint64_t seed) {
    for (int64_t r = 0; r < n_rows; ++r) {
      std::set<int32_t> row;
      const uint32_t n = draw(seed, 0, static_cast<uint64_t>(r), 0) % (most + 1);
      for (uint32_t k = 1; k <= n; ++k) {
        row.insert(to_range(draw(seed, 0, static_cast<uint64_t>(r), k), static_cast<int32_t>(n_cols)));
      }
      col_idx.insert(col_idx.end(), row.begin(), row.end());
      row_ptr.push_back(static_cast<int64_t>(col_idx.size()));
    }
    for (size_t i = 0; i < col_idx.size(); ++i) {
      values.push_back(static_cast<float>(draw(seed, 1, i, 0) % 2));
      rates.push_back(static_cast<float>(to_unit(draw(seed, 2, i, 0)) * 2.5));
    }
  }
  Csr view(int64_t n_cols) const {
    return {row_ptr.data(), col_idx.data(), values.data(), static_cast<int64_t>(row_ptr.size()) - 1, n_cols};
  }
};

// Fresh tables for one run.
struct Tables {
  std::vector<float> users, items, user_bias, item_bias, user_state, item_state, user_bias_state, item_bias_state;
  std::vector<int32_t> user_steps, item_steps;
  SgdProblem problem{};

  Tables(const Sparse& data, int64_t d, SgdOptimizer optimizer)
      : users(uniform(kUsers * d, 1)),
        items(uniform(kItems * d, 2)),
        user_bias(uniform(kUsers, 3)),
        item_bias(uniform(kItems, 4)),
        user_steps(kUsers),
        item_steps(kItems) {
    const auto s = static_cast<size_t>(optimizer);
    user_state.assign(users.size() * s, 0.0f);
    item_state.assign(items.size() * s, 0.0f);
    user_bias_state.assign(user_bias.size() * s, 0.0f);
    item_bias_state.assign(item_bias.size() * s, 0.0f);
    problem.users = {{users.data(), kUsers, d},
                     user_bias.data(),
                     user_state.data(),
                     user_bias_state.data(),
                     user_steps.data(),
                     {},
                     kUsers};
    problem.items = {{items.data(), kItems, d},
                     item_bias.data(),
                     item_state.data(),
                     item_bias_state.data(),
                     item_steps.data(),
                     {},
                     kItems};
    problem.data = data.view(kItems);
    problem.optimizer = optimizer;
    problem.learning_rate = 0.01f;
    problem.regularization = 0.02f;
    problem.seed = 99;
    problem.epoch = 3;
    problem.deterministic = true;
  }
  std::vector<float> all(const SgdTotals& totals) const {
    std::vector<float> out;
    for (const auto* part : {&users, &items, &user_bias, &item_bias, &user_state, &item_state}) {
      out.insert(out.end(), part->begin(), part->end());
    }
    const double high = std::floor(totals.loss);  // in pieces that a float holds
    out.insert(out.end(), {static_cast<float>(high), static_cast<float>((totals.loss - high) * 0x1p20),
                           static_cast<float>(totals.n_trained), static_cast<float>(totals.n_skipped)});
    return out;
  }
};

const Sparse& interactions() {
  static const Sparse data(kUsers, kItems, 40, 11);
  return data;
}

template <class Epoch>
void check_same_bits(int64_t d, SgdOptimizer optimizer, bool rates, const Epoch& epoch) {
  std::vector<float> expected;
  for (const int n_threads : {1, 2, 5, 2}) {
    Tables tables(interactions(), d, optimizer);
    if (rates) tables.problem.rates = interactions().rates.data();
    const SgdTotals totals = epoch(tables.problem, n_threads);
    CHECK(std::isfinite(totals.loss) && totals.n_trained > 0);
    const auto got = tables.all(totals);
    if (expected.empty()) expected = got;
    CHECK_AT(got.size() == expected.size(), n_threads);
    CHECK_AT(std::memcmp(got.data(), expected.data(), got.size() * sizeof(float)) == 0, n_threads);
  }
}

std::vector<double> cdf() {
  std::vector<double> out;
  for (int64_t i = 0; i < kItems; ++i) out.push_back((out.empty() ? 0.0 : out.back()) + static_cast<double>(i % 7));
  return out;
}

RF_CASE(threads_bpr_epoch) {
  const auto weights = cdf();
  for (const SgdOptimizer optimizer : {SgdOptimizer::kSgd, SgdOptimizer::kAdagrad, SgdOptimizer::kAdam}) {
    for (const int64_t d : {64, 37}) {
      check_same_bits(d, optimizer, d == 37,
                      [&](const SgdProblem& p, int n) { return bpr_epoch<Cpu>(p, nullptr, 1, n); });
    }
  }
  check_same_bits(24, SgdOptimizer::kSgd, true,
                  [&](const SgdProblem& p, int n) { return bpr_epoch<Cpu>(p, weights.data(), 3, n); });
}

RF_CASE(threads_warp_epoch) {
  check_same_bits(24, SgdOptimizer::kAdagrad, false,
                  [](const SgdProblem& p, int n) { return warp_epoch<Cpu>(p, nullptr, 30, 0, 0, n); });
  check_same_bits(24, SgdOptimizer::kSgd, true,
                  [](const SgdProblem& p, int n) { return warp_epoch<Cpu>(p, nullptr, 30, 2, 5, n); });
}

RF_CASE(threads_logistic_epoch) {
  check_same_bits(24, SgdOptimizer::kSgd, false,
                  [](const SgdProblem& p, int n) { return logistic_epoch<Cpu>(p, nullptr, 9, n); });
}

RF_CASE(threads_rating_epoch) {
  for (const SgdRatingLoss loss : {SgdRatingLoss::kSquared, SgdRatingLoss::kSmoothL1, SgdRatingLoss::kLogistic}) {
    check_same_bits(24, SgdOptimizer::kAdam, false,
                    [&](const SgdProblem& p, int n) { return rating_epoch<Cpu>(p, 0.5f, loss, n); });
  }
}

// Users that are folded in share nothing, so they run in parallel.
RF_CASE(threads_frozen_items) {
  check_same_bits(24, SgdOptimizer::kSgd, false, [](SgdProblem p, int n) {
    p.frozen = SgdFrozen::kItems;
    return bpr_epoch<Cpu>(p, nullptr, 1, n);
  });
}

// Feature rows are shared by users, so the epoch is sequential, whatever the number of threads.
RF_CASE(threads_features) {
  const Sparse user_features(kUsers, kUsers, 6, 21), item_features(kItems, kItems, 6, 22);
  for (const SgdOptimizer optimizer : {SgdOptimizer::kSgd, SgdOptimizer::kAdagrad}) {
    check_same_bits(24, optimizer, false, [&](SgdProblem p, int n) {
      p.users.features = user_features.view(kUsers);
      p.items.features = item_features.view(kItems);
      return bpr_epoch<Cpu>(p, nullptr, 1, n);
    });
  }
}

RF_CASE(lock_free_on_one_thread_repeats) {
  std::vector<float> expected;
  for (int round = 0; round < 2; ++round) {
    Tables tables(interactions(), 24, SgdOptimizer::kSgd);
    tables.problem.deterministic = false;
    const auto got = tables.all(bpr_epoch<Cpu>(tables.problem, nullptr, 1, 1));
    if (expected.empty()) expected = got;
    CHECK(got == expected);
  }
}

RF_CASE(draws_in_lanes_are_the_draws) {
  uint64_t sample[kDrawLanes];
  uint32_t block[kDrawLanes], words[4 * kDrawLanes];
  for (int i = 0; i < kDrawLanes; ++i) {
    sample[i] = (uint64_t{1} << 62) + uint64_t{0x123456789} * static_cast<uint64_t>(i);
    block[i] = 0x3FFFFFFFu - static_cast<uint32_t>(i);
  }
  constexpr uint64_t kSeed = 0x9876543210ABCDEFu;
  draw4_lanes(kSeed, 7, sample, block, words);
  for (int i = 0; i < kDrawLanes; ++i) {
    const Philox expected = draw4(kSeed, 7, sample[i], block[i]);
    for (int w = 0; w < 4; ++w) CHECK_AT(words[4 * i + w] == expected[static_cast<size_t>(w)], i);
  }
}

RF_CASE(negatives_in_lanes_are_those_drawn_one_by_one) {
  constexpr int kMembers = 60, kWanted = 21, kWords = 32;
  std::vector<int32_t> members, row;
  for (int i = 0; i < kMembers; ++i) members.push_back(3 * i + 1);
  int told = 0;
  for (uint32_t visit = 0; visit < 400; ++visit) {
    const bool all = visit % 2 == 0;  // all items are in the block
    const auto n_seen = static_cast<size_t>(visit % (all ? 20 : kMembers + 1));
    row.assign(members.begin(), members.begin() + static_cast<std::ptrdiff_t>(n_seen));
    const IdRow seen{row.data(), static_cast<int64_t>(row.size())};
    const SgdSampler sampler({all ? nullptr : members.data(), all ? 3 * kMembers : kMembers, nullptr, nullptr});
    uint32_t words[kWords + kLanes] = {};
    for (uint32_t k = 0; k < kWords; ++k) words[k] = draw(5, 6, visit, k);
    int32_t got[kWanted + kLanes];
    const int n_words = draw_lanes(got, kWanted, sampler, seen, words, kWords);
    if (n_words == 0) continue;
    ++told;
    int at = 0;
    for (int k = 0; k < kWanted; ++k) {
      while (seen.contains(sampler.pick(words[at]))) ++at;
      CHECK_AT(got[k] == sampler.pick(words[at++]), visit);
    }
    CHECK_AT(at == n_words, visit);
  }
  CHECK(told > 200);
}

RF_CASE(sigmoid_and_softplus) {
  for (int i = -2000; i <= 2000; ++i) {
    const auto x = static_cast<float>(i) * 0.04f;
    const double sigma = 1.0 / (1.0 + std::exp(-double{x})), soft = std::log1p(std::exp(double{x}));
    CHECK_AT(std::abs(sigmoid(x) - sigma) <= 4e-6 * sigma + 1e-37, i);
    CHECK_AT(std::abs(softplus(x) - soft) <= 4e-6 * soft + 1e-37, i);
    const LogisticTerms both = logistic_terms(broadcast(x));
    CHECK_AT(std::abs(both.sigmoid[0] - sigma) <= 4e-6 * sigma + 1e-37, i);
    CHECK_AT(both.softplus[0] == softplus(x), i);
  }
  CHECK(softplus(1e30f) == 1e30f && sigmoid(1e30f) == 1.0f && std::isnan(softplus(NAN)));
}

}  // namespace
}  // namespace recsys_fast
