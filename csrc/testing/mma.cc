#include "testing/mma.h"

#include "core/bf16.h"

namespace recsys_fast::emulated {
namespace {

struct Fragments {
  float* sum;
  const uint32_t *a, *b;
};

// The two numbers of a word, to out[0] and out[step].
void unpack(double* out, int step, uint32_t word) {
  out[0] = from_bf16(word);
  out[step] = from_bf16(word >> 16);
}

void multiply(void* const* lanes) {
  double a[16][16], b[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const Fragments& mine = *static_cast<const Fragments*>(lanes[lane]);
    const int g = lane / 4, q = lane % 4;
    for (int w = 0; w < 4; ++w) unpack(&a[g + 8 * (w % 2)][2 * q + 8 * (w / 2)], 1, mine.a[w]);
    for (int w = 0; w < 2; ++w) unpack(&b[2 * q + 8 * w][g], 8, mine.b[w]);
  }
  double product[16][8] = {};
  for (int i = 0; i < 16; ++i) {
    for (int k = 0; k < 16; ++k) {
      for (int j = 0; j < 8; ++j) product[i][j] += a[i][k] * b[k][j];
    }
  }
  for (int lane = 0; lane < 32; ++lane) {
    float* sum = static_cast<const Fragments*>(lanes[lane])->sum;
    for (int e = 0; e < 4; ++e) {
      sum[e] = static_cast<float>(sum[e] + product[lane / 4 + 8 * (e / 2)][2 * (lane % 4) + e % 2]);
    }
  }
}

}  // namespace

void mma_bf16(float (&sum)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], Place place) {
  Fragments mine{sum, a, b};
  meet_to_work(&mine, multiply, place);
}

}  // namespace recsys_fast::emulated
