// The scan by bytes: what it rules out lies below the threshold, whatever the rows hold, and it does rule out.
#include <limits>

#include "check.h"
#include "core/simd.h"
#include "cpu/topk_bytes.h"

namespace recsys_fast {
namespace {

constexpr int64_t kColumns = kTileVectors * kLanes;

// c.b of a query and column j of a panel, one byte after the other.
int64_t byte_product(const std::vector<int32_t>& query, const std::vector<int32_t>& panel, int64_t j) {
  int64_t sum = 0;
  for (size_t w = 0; w < query.size(); ++w) {
    const auto a = static_cast<uint32_t>(panel[w * kColumns + static_cast<size_t>(j)]);
    const auto b = static_cast<uint32_t>(query[w]);
    for (int shift = 0; shift < 32; shift += 8) {
      sum += static_cast<int64_t>(a >> shift & 255) * static_cast<int8_t>(b >> shift & 255);
    }
  }
  return sum;
}

struct Scan {
  std::vector<double> exact;     // products of the query with the columns
  std::vector<int64_t> product;  // those of the bytes
  std::vector<float> row;        // the query
  ByteQuery bytes;
  ByteBounds bounds;

  Scan(const std::vector<float>& query, const std::vector<float>& panel) : row(query) {
    const auto d = std::ssize(query);
    const auto n_words = static_cast<size_t>(byte_words(d));
    std::vector<int32_t> query_words(n_words), panel_words(n_words * kColumns);
    bounds = pack_bytes(panel_words.data(), panel.data(), d, kColumns);
    bytes = pack_byte_query(query_words.data(), 1, query.data(), d);
    for (int64_t j = 0; j < kColumns; ++j) {
      double sum = 0.0;
      for (int64_t k = 0; k < d; ++k)
        sum += double{query[static_cast<size_t>(k)]} * panel[static_cast<size_t>(k * kColumns + j)];
      exact.push_back(sum);
      product.push_back(byte_product(query_words, panel_words, j));
    }
  }

  // Whether column j may reach the threshold as far as the bytes tell.
  bool may_reach(float threshold, int64_t j) const {
    double square = 0.0;
    for (const float x : row) square += double{x} * x;
    float thresholds[kLanes], norms[kLanes], steps[kLanes], errors[kLanes];
    int32_t offsets[kLanes], least[kLanes];
    std::fill_n(thresholds, kLanes, threshold);
    std::fill_n(norms, kLanes, static_cast<float>(std::sqrt(square)));
    std::fill_n(steps, kLanes, bytes.inverse_step);
    std::fill_n(errors, kLanes, bytes.error);
    std::fill_n(offsets, kLanes, bytes.offset);
    byte_limits(least, {thresholds, norms, steps, errors, offsets}, 1, bounds);
    return product[static_cast<size_t>(j)] >= least[0];
  }
};

// Rows of d numbers times scale; every tenth of them times `outlier`.
std::vector<float> numbers(int64_t n, uint64_t seed, float scale, float outlier) {
  auto out = test::uniform(n, seed);
  for (size_t i = 0; i < out.size(); ++i) out[i] *= i % 10 == 3 ? scale * outlier : scale;
  return out;
}

RF_CASE(bytes_never_rule_out_what_reaches_the_threshold) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const int64_t d : {1, 3, 4, 17, 64, 200, 2048}) {
    for (const float query_scale : {0.0f, 1e-30f, 1e-3f, 1.0f, 1e15f}) {
      for (const float panel_scale : {0.0f, 1e-38f, 1.0f, 1e9f, 1e20f}) {
        for (const float outlier : {1.0f, 50.0f, 0.0f}) {
          const Scan scan(numbers(d, 21, query_scale, outlier), numbers(d * kColumns, 22, panel_scale, outlier));
          for (int64_t j = 0; j < kColumns; ++j) {
            const auto at = static_cast<float>(scan.exact[static_cast<size_t>(j)]);
            for (const float threshold : {-infinity, std::min(at, std::nextafter(at, -infinity)), at * 0.5f}) {
              if (scan.exact[static_cast<size_t>(j)] >= threshold) CHECK_AT(scan.may_reach(threshold, j), d);
            }
            CHECK_AT(!scan.may_reach(infinity, j), d);
          }
        }
      }
    }
  }
}

RF_CASE(bytes_rule_out_what_lies_a_few_percent_below) {
  for (const int64_t d : {16, 64, 256}) {
    const Scan scan(numbers(d, 23, 1.0f, 1.0f), numbers(d * kColumns, 24, 3.0f, 1.0f));
    const double norms = std::sqrt(static_cast<double>(d) / 3) * std::sqrt(static_cast<double>(d) * 3);
    for (int64_t j = 0; j < kColumns; ++j) {
      CHECK_AT(!scan.may_reach(static_cast<float>(scan.exact[static_cast<size_t>(j)] + 0.03 * norms), j), d);
    }
  }
}

}  // namespace
}  // namespace recsys_fast
