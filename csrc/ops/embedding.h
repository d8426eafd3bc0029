// Rows of an embedding table for packed sequences, with learned positions, and dropout from a counter.
#pragma once

#include "core/device.h"
#include "core/dropout_mask.h"
#include "core/views.h"

namespace recsys_fast {

// Which row of the positions belongs to row t of the sequence [begin, end): t - begin, or counted from its end. No
// sequence is longer than there are positions.
struct Places {
  const int64_t* row_ptr;  // (n_sequences + 1)
  int64_t n_sequences;
  bool from_end;
};

// out[t] = D(scale table[ids[t]] + positions[place of t]); out (T, d), table (n, d), positions (P, d) or P = 0 for
// none, ids (T). An id of -1 is a row of zeros. D multiplies by the mask of (t, column). Overwrites.
template <class Device>
void embedding_forward(Rows<float> out, Rows<const float> table, Rows<const float> positions, const int32_t* ids,
                       Places places, float scale, DropoutMask dropout, int n_threads);

// dout *= mask; dpositions[p] = sum of dout at place p; dout *= scale. dout (T, d) in place, dpositions (P, d)
// overwritten, P = 0 for none. Deterministic: the tree of the sums depends on row_ptr alone.
template <class Device>
void embedding_backward(Rows<float> dout, Rows<float> dpositions, Places places, float scale, DropoutMask dropout,
                        int n_threads);

// x[t, c] *= 0 or 1 / (1 - rate); x (n, d) in place.
template <class Device>
void dropout_apply(Rows<float> x, DropoutMask dropout, int n_threads);

}  // namespace recsys_fast
