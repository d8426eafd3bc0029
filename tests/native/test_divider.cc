// Quotients by multiplication are the quotients, up to the largest number and around every power of two.
#include "check.h"
#include "core/rng.h"
#include "cuda/divider.h"

namespace recsys_fast {
namespace {

constexpr uint32_t kMost = 0x7fffffffu;

void check(uint32_t by) {
  const Divider divider(by);
  for (const uint32_t n : {0u, by - 1, by, kMost / by * by, kMost / by * by - 1, kMost - 1, kMost}) {
    if (n > kMost) continue;
    CHECK_AT(divider.quotient(n) == n / by, by);
    uint32_t rest = n;
    CHECK_AT(divider.split(rest) == n / by && rest == n % by, by);
  }
}

RF_CASE(quotients_by_multiplication_are_exact) {
  for (uint32_t by = 1; by < 5000; ++by) check(by);
  for (int bit = 1; bit < 31; ++bit) {
    for (const uint32_t by : {(1u << bit) - 1, 1u << bit, (1u << bit) + 1}) check(by);
  }
  check(kMost);
  for (uint64_t i = 0; i < 5000; ++i) check(1 + (draw(3, 0, i, 0) >> 1 >> (i % 31)) % kMost);
}

}  // namespace
}  // namespace recsys_fast
