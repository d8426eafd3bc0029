// Recurrent layers on one thread and on several, at shapes that leave remainders everywhere; tanh.
#include <algorithm>
#include <cmath>

#include "check.h"
#include "core/sigmoid.h"
#include "ops/recurrent.h"

namespace recsys_fast {
namespace {

constexpr int kThreads[] = {1, 2, 5};

struct Batch {
  std::vector<int64_t> row_ptr{0};
  int64_t d, n_hidden;
  std::vector<float> x, h0, w_x, w_h, bias, dh;

  Batch(int64_t n_sequences, int64_t mean, int64_t d_, int64_t n_hidden_) : d(d_), n_hidden(n_hidden_) {
    for (int64_t s = 0; s < n_sequences; ++s) {
      const int64_t length = draw(5, 0, static_cast<uint64_t>(s), 0) % static_cast<uint32_t>(2 * mean + 1);
      row_ptr.push_back(row_ptr.back() + length);
    }
    const auto floats = [](int64_t n, uint64_t seed) { return test::uniform(n, seed); };
    x = floats(row_ptr.back() * d, 1);
    h0 = floats(n_sequences * 2 * n_hidden, 2);
    w_x = floats(d * 4 * n_hidden, 3);
    w_h = floats(n_hidden * 4 * n_hidden, 4);
    bias = floats(4 * n_hidden, 5);
    dh = floats(row_ptr.back() * n_hidden, 6);
  }
  RecurrentLayer layer() const {
    const auto n = static_cast<int64_t>(row_ptr.size()) - 1;
    return {{x.data(), row_ptr.data(), n, d, row_ptr.back()},
            h0.data(),
            w_x.data(),
            w_h.data(),
            bias.data(),
            bias.data(),
            n_hidden};
  }
};

// Everything that forward and backward of a cell write, one array behind the other.
template <class Forward, class Backward>
std::vector<float> run(const Batch& batch, int64_t n_gates, const Forward& forward, const Backward& backward) {
  const int64_t n = batch.row_ptr.back(), h = batch.n_hidden, width = n_gates * h;
  const auto n_sequences = static_cast<int64_t>(batch.row_ptr.size()) - 1;
  const int64_t sizes[] = {n * h,           n * h,     n * 4 * h, n * batch.d, n_sequences * (n_gates == 4 ? 2 * h : h),
                           batch.d * width, h * width, width,     width};
  int64_t total = 0;
  for (const int64_t size : sizes) total += size;
  std::vector<float> out(static_cast<size_t>(total));
  float* at[9];
  float* next = out.data();
  for (int i = 0; i < 9; ++i) {
    at[i] = next;
    next += sizes[i];
  }
  forward(RecurrentStates<float>{at[0], at[1], at[2]}, batch.layer());
  backward(RecurrentGradients{at[3], at[4], at[5], at[6], at[7], at[8]}, batch.dh.data(),
           RecurrentStates<const float>{at[0], at[1], at[2]}, batch.layer());
  return out;
}

RF_CASE(recurrent_layers_do_not_depend_on_threads) {
  const Batch batches[] = {Batch(0, 1, 3, 2), Batch(60, 5, 17, 19), Batch(300, 1, 8, 32), Batch(9, 40, 5, 7)};
  for (const Batch& batch : batches) {
    std::vector<float> first[3];
    for (const int n_threads : kThreads) {
      const std::vector<float> now[3] = {
          run(
              batch, 3, [&](auto... a) { gru_forward<Cpu>(a..., n_threads); },
              [&](auto... a) { gru_backward<Cpu>(a..., 3, n_threads); }),
          run(
              batch, 4, [&](auto... a) { lstm_forward<Cpu>(a..., n_threads); },
              [&](auto... a) { lstm_backward<Cpu>(a..., 0, n_threads); }),
          run(
              batch, 1, [&](auto... a) { rnn_forward<Cpu>(a..., RecurrentActivation::kRelu, n_threads); },
              [&](auto... a) { rnn_backward<Cpu>(a..., RecurrentActivation::kRelu, 1, n_threads); }),
      };
      for (int cell = 0; cell < 3; ++cell) {
        if (n_threads == 1) first[cell] = now[cell];
        CHECK_AT(now[cell] == first[cell], n_threads);
      }
    }
  }
}

RF_CASE(tanh_is_exact_to_a_few_roundings) {
  for (int i = -4000; i <= 4000; ++i) {
    const float x = 0.003f * static_cast<float>(i);
    const double exact = std::tanh(static_cast<double>(x));
    CHECK_AT(std::abs(tanh(broadcast(x))[0] - exact) <= 3e-7 * std::abs(exact), i);
  }
  CHECK(tanh(broadcast(1e30f))[0] == 1.0f && tanh(broadcast(-1e30f))[0] == -1.0f);
  CHECK(std::isnan(tanh(broadcast(NAN))[0]));
}

}  // namespace
}  // namespace recsys_fast
