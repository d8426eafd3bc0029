// Networks of neural collaborative filtering, which score pairs of rows (He et al. 2017).
#pragma once

#include "core/device.h"
#include "core/dropout_mask.h"
#include "core/views.h"
#include "ops/activation.h"

namespace recsys_fast {

inline constexpr int64_t kNcfMaxLayers = 8;

// s = h . [p * q, z_L] + c, z_l = D(activation(z_{l-1} w_l + b_l)), z_0 = [p', q']: p and q are the first d_product
// columns of the user's and the item's row, p' and q' the others. params: w_l (widths[l-1], widths[l]) and b_l for each
// layer, then h and c; widths (n_layers + 1), the first twice the width of p', 0 without layers. The mask of layer l
// is site + l - 1.
struct NcfNetwork {
  const float* params;
  const int64_t* widths;
  int64_t n_layers, d_product;
  Activation activation;  // one whose result tells its slope
  DropoutMask dropout;

  int64_t d_tower() const { return widths[0] / 2; }
  int64_t d_last() const { return n_layers > 0 ? widths[n_layers] : 0; }
  int64_t n_params() const {
    int64_t n = d_product + d_last() + 1;
    for (int64_t l = 1; l <= n_layers; ++l) n += (widths[l - 1] + 1) * widths[l];
    return n;
  }
};

// Binary cross-entropy of user_ids[i] with item_ids(i, 0), which is wanted, and the others of row i, which are not:
// returns sum log(1 + e^(-+s)) over pairs whose item is not -1. The gradients of scale times it are overwritten: dusers
// (n, d) per user of the batch, ditems (n w, d) per pair, dparams (n_params); sums have a fixed tree. Deterministic.
template <class Device>
double ncf_loss(Rows<float> dusers, Rows<float> ditems, float* dparams, Rows<const float> users,
                Rows<const float> items, const int32_t* user_ids, Rows<const int32_t> item_ids,
                const NcfNetwork& network, float scale, int n_threads);

// out(i, j) = score of user row i and item row j, without dropout. Overwrites; no memory of the size of out besides.
template <class Device>
void ncf_scores(Rows<float> out, Rows<const float> users, Rows<const float> items, const NcfNetwork& network,
                int n_threads);

}  // namespace recsys_fast
