// The layers of a network of pairs as its operations read them: where each parameter lies, on the host or a device.
#pragma once

#include <array>

#include "ops/ncf.h"

namespace recsys_fast {

struct NcfLayer {
  const float *w, *b;  // as stored
  int64_t d_in, d_out;
};

struct NcfLayers {
  std::array<NcfLayer, kNcfMaxLayers> layer;
  int64_t n, d_product, d_tower, d_last;
  const float *h, *h_last, *c;  // h of p * q, and of z_L
};

inline NcfLayers ncf_layers(const NcfNetwork& network) {
  NcfLayers out{{},      network.n_layers, network.d_product, network.d_tower(), network.d_last(), nullptr,
                nullptr, nullptr};
  const float* at = network.params;
  for (int64_t l = 0; l < out.n; ++l) {
    const int64_t d_in = network.widths[l], d_out = network.widths[l + 1];
    out.layer[l] = {at, at + d_in * d_out, d_in, d_out};
    at += (d_in + 1) * d_out;
  }
  out.h = at;
  out.h_last = at + out.d_product;
  out.c = out.h_last + out.d_last;
  return out;
}

}  // namespace recsys_fast
