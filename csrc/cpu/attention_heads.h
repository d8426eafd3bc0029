// Attention within the sequences of a tile: 64 queries at a time lie in the lanes, so that a softmax needs no sums
// across lanes, and meet 64 keys at a time (online softmax: Milakov, Gimelshein 2018; Dao et al. 2022).
#pragma once

#include <algorithm>

#include "core/dropout.h"
#include "core/sigmoid.h"
#include "cpu/block_gemm.h"

namespace recsys_fast {

inline constexpr int64_t kQueries = 64, kKeys = 64;
inline constexpr int64_t kWide = kQueries + kLanes;  // a row of transposed queries, with room to start anywhere
inline constexpr int64_t kMaskGroups = dropout_groups(int64_t{4096});  // masks are drawn for the longest sequence

struct Heads {
  int64_t d, n_heads, width;
  bool causal;
  float scale;  // of the scores: 1 / sqrt(width)
  Dropout drop;
  int64_t n_keys(int64_t n, int64_t last_query) const { return causal ? last_query : n; }
};

// Queries i0 to i1 of a sequence of n rows.
struct Piece {
  int64_t row, packed_row;  // the sequence's first row, in the tile and in the batch
  int64_t n, i0, i1;
  int64_t lane;  // of query i0 in the transposed rows
};

// A tile's arrays: qkv (rows, 3 d) and context (rows, d) with rows this far apart, and scratch.
struct HeadRows {
  float* qkv;
  int64_t qkv_row;
  float* context;
  int64_t context_row;
  const float* results;  // backward: context (rows, d) as saved
  float* lse;            // of the whole batch (T, n_heads)
  float* queries;        // scratch (padded(d), kWide): transposed queries
  float* scores;         // scratch (kKeys, kQueries): a row per key
  float* gradient;       // backward: dcontext (rows, d) like context
  float* dqkv;           // backward: (rows, 3 d) like qkv
  float* gradients;      // scratch (padded(d), kWide): transposed rows of dcontext
  float* slopes;         // scratch (kKeys, kQueries)
};

// ln x for normal x > 0; error below two roundings of the larger of the result and 1.
RF_INLINE Vec log(Vec x) {
  VecInt bits;
  std::memcpy(&bits, &x, sizeof bits);
  const VecInt power = (bits - 0x3F3504F3) >> 23;  // x = 2^power m, m in [sqrt(1/2), sqrt(2))
  bits -= power << 23;
  Vec m;
  std::memcpy(&m, &bits, sizeof m);
  const Vec t = m - 1.0f, t2 = t * t, t4 = t2 * t2;
  const Vec p = (-0.49999985f + 0.3333396f * t) + t2 * (-0.25002134f + 0.1996206f * t) +
                t4 * ((-0.16562997f + 0.14910638f * t) + t2 * (-0.14352755f + 0.08808074f * t));
  return t + t2 * p + 0.69314718f * __builtin_convertvector(power, Vec);
}

RF_INLINE Vec lane_numbers() {
  Vec at;
  for (int i = 0; i < kLanes; ++i) at[i] = static_cast<float>(i);
  return at;
}

// Calls body(piece) for all queries of sequences [first, last), short sequences in groups of up to kQueries rows, after
// transpose(row, n) for the rows of each group in the tile, which begins at row_ptr[first].
template <class Transpose, class Body>
inline void for_each_piece(const int64_t* row_ptr, int64_t first, int64_t last, Transpose&& transpose, Body&& body) {
  const int64_t start = row_ptr[first];
  for (int64_t s = first; s < last;) {
    const int64_t at = row_ptr[s], n = row_ptr[s + 1] - at;
    if (n > kQueries) {
      for (int64_t i = 0; i < n; i += kQueries) {
        const int64_t end = std::min(n, i + kQueries);
        transpose(at - start + i, end - i);
        body(Piece{at - start, at, n, i, end, 0});
      }
      ++s;
      continue;
    }
    int64_t end = s + 1;
    while (end < last && row_ptr[end + 1] - at <= kQueries) ++end;
    transpose(at - start, row_ptr[end] - at);
    for (; s < end; ++s) {
      const int64_t length = row_ptr[s + 1] - row_ptr[s];
      if (length > 0) body(Piece{row_ptr[s] - start, row_ptr[s], length, 0, length, row_ptr[s] - at});
    }
  }
}

// out (padded(d), kWide) = the transpose of n <= kQueries rows; reads whole tiles.
inline void transpose_queries(float* out, const float* rows, int64_t row, int64_t n, int64_t d) {
  for (int64_t c = 0; c < d; c += kLanes) {
    for (int64_t r = 0; r < n; r += kLanes) transpose_tile(out + c * kWide + r, kWide, rows + r * row + c, row);
  }
}

// Which keys of a tile that begins at k0 the vector of queries from `query` on sees: all lanes those before `open`,
// none those from `closed` on.
struct Seen {
  int64_t open, closed;
  Seen(const Heads& h, int64_t query, int64_t k0, int64_t n_keys) : open(n_keys), closed(n_keys) {
    if (!h.causal) return;
    open = std::clamp<int64_t>(query + 1 - k0, 0, n_keys);
    closed = std::clamp<int64_t>(query + kLanes - k0, 0, n_keys);
  }
  // Rows to be zeros behind those: products take kTileRows rows together.
  int64_t zeros(int64_t n_keys) const { return std::min(n_keys, closed + kTileRows); }
};

// Calls body(j, mask) for keys j < n of the tile, the masks of the vector of queries from packed row `row` on.
template <class Body>
RF_INLINE void for_each_mask(const Heads& h, int64_t row, int64_t head, int64_t k0, int64_t n, Body&& body) {
  VecBits lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = static_cast<uint32_t>(i);
  const auto step = static_cast<uint32_t>(h.n_heads * kMaskGroups * 16);
  const VecBits base = lane * step + static_cast<uint32_t>((row * h.n_heads + head) * kMaskGroups * 16);
  for (int64_t group = 0; group < n; group += 32) {
    for (int64_t c = group; c < std::min(n, group + 16); ++c) {
      VecBits x = base + static_cast<uint32_t>((k0 + group) / 32 * 16 + c - group);
      x = x * h.drop.factor + h.drop.offset;
      x = (x ^ (x >> 16)) * 0x7FEB352Du;
      x = (x ^ (x >> 15)) * 0x846CA68Bu;
      x ^= x >> 16;
      body(c, dropout_low(h.drop, x));
      if (c + 16 < n) body(c + 16, dropout_high(h.drop, x));
    }
  }
}

// scores <- exp(scale (scores - largest)) for one vector of queries; `largest` and `total` go on from earlier tiles.
// Returns what earlier sums have to be multiplied by.
RF_INLINE Vec exponentials(const Heads& h, float* scores, Vec& largest, Vec& total, int64_t query, int64_t k0,
                           int64_t n_keys) {
  const Seen seen(h, query, k0, n_keys);
  const Vec place = lane_numbers() + static_cast<float>(query - k0), none = broadcast(-3e38f);
  Vec most = largest;
  for (int64_t j = 0; j < seen.open; ++j) most = max(most, load(scores + j * kQueries));
  for (int64_t j = seen.open; j < seen.closed; ++j) {
    most = max(most, place >= broadcast(static_cast<float>(j)) ? load(scores + j * kQueries) : none);
  }
  const Vec ratio = exp((largest - most) * h.scale), shift = most * h.scale;
  Vec sum = total * ratio;
  for (int64_t j = 0; j < seen.open; ++j) {
    const Vec p = exp(load(scores + j * kQueries) * h.scale - shift);
    sum += p;
    store(scores + j * kQueries, p);
  }
  for (int64_t j = seen.open; j < seen.closed; ++j) {
    const Vec all = exp(load(scores + j * kQueries) * h.scale - shift);
    const Vec p = place >= broadcast(static_cast<float>(j)) ? all : Vec{};
    sum += p;
    store(scores + j * kQueries, p);
  }
  for (int64_t j = seen.closed; j < seen.zeros(n_keys); ++j) store(scores + j * kQueries, Vec{});
  largest = most;
  total = sum;
  return ratio;
}

// n rows of `width` columns *= factor[row].
inline void scale_rows(float* rows, int64_t row, const float* factor, int64_t n, int64_t width) {
  for (int64_t i = 0; i < n; ++i) {
    float* at = rows + i * row;
    int64_t c = 0;
    for (; c + kLanes <= width; c += kLanes) store(at + c, load(at + c) * factor[i]);
    for (; c < width; ++c) at[c] *= factor[i];
  }
}

// context and lse of a piece's queries.
inline void attend(const Heads& h, const HeadRows& t, const Piece& p) {
  const int64_t n_queries = p.i1 - p.i0, n_keys = h.n_keys(p.n, p.i1);
  alignas(64) float largest[kQueries], total[kQueries], factor[kQueries];
  for (int64_t head = 0; head < h.n_heads; ++head) {
    const float* keys = t.qkv + p.row * t.qkv_row + h.d + head * h.width;
    const float* values = keys + h.d;
    float* out = t.context + (p.row + p.i0) * t.context_row + head * h.width;
    for (int64_t k0 = 0; k0 < n_keys; k0 += kKeys) {
      const int64_t n = std::min(kKeys, n_keys - k0);
      product({keys + k0 * t.qkv_row, t.qkv_row, 1, t.queries + head * h.width * kWide + p.lane, kWide, t.scores,
               kQueries, n, (n_queries + kLanes - 1) / kLanes * kLanes, h.width});
      for (int64_t v = 0; v < n_queries; v += kLanes) {
        Vec most = k0 == 0 ? broadcast(-3e38f) : load(largest + v), sum = k0 == 0 ? Vec{} : load(total + v);
        const int64_t query = p.i0 + v, closed = Seen(h, query, k0, n).closed;
        store(factor + v, exponentials(h, t.scores + v, most, sum, query, k0, n));
        store(largest + v, most);
        store(total + v, sum);
        if (n_keys <= kKeys) {  // a single tile: the probabilities are final
          const Vec share = 1.0f / sum;
          for (int64_t j = 0; j < closed; ++j)
            store(t.scores + j * kQueries + v, load(t.scores + j * kQueries + v) * share);
        }
        if (!h.drop.active()) continue;
        for_each_mask(h, p.packed_row + query, head, k0, closed, [&](int64_t j, Vec mask) {
          store(t.scores + j * kQueries + v, load(t.scores + j * kQueries + v) * mask);
        });
      }
      if (k0 > 0) scale_rows(out, t.context_row, factor, n_queries, h.width);
      for (int64_t i = 0; i < n_queries; i += kTileRows) {
        const int64_t rows = std::min<int64_t>(kTileRows, n_queries - i);
        const int64_t reach = h.causal ? std::min(n, p.i0 + i + rows - k0) : n;
        product({t.scores + i, 1, kQueries, values + k0 * t.qkv_row, t.qkv_row, out + i * t.context_row, t.context_row,
                 rows, h.width, reach, nullptr, k0 > 0});
      }
    }
    float* lse = t.lse + (p.packed_row + p.i0) * h.n_heads + head;
    for (int64_t v = 0; v < n_queries; v += kLanes) {
      store(factor + v, 1.0f / load(total + v));
      store(largest + v, load(largest + v) * h.scale + log(load(total + v)));
    }
    if (n_keys > kKeys) scale_rows(out, t.context_row, factor, n_queries, h.width);
    for (int64_t i = 0; i < n_queries; ++i) lse[i * h.n_heads] = largest[i];
  }
}

// For one vector of queries: scores <- probabilities times masks, slopes (gradients of those) <- gradients of the
// products q k^T. With P = exp(scale s - lse): dS = scale P (mask dP - delta), delta = dcontext . context.
RF_INLINE void probabilities_back(const Heads& h, float* scores, float* slopes, Vec lse, Vec delta, int64_t row,
                                  int64_t head, int64_t query, int64_t k0, int64_t n_keys) {
  const Seen seen(h, query, k0, n_keys);
  const Vec place = lane_numbers() + static_cast<float>(query - k0);
  const auto one = [&](int64_t j, Vec mask) {
    const Vec all = exp(load(scores + j * kQueries) * h.scale - lse);
    const Vec p = place >= broadcast(static_cast<float>(j)) || !h.causal ? all : Vec{};
    store(scores + j * kQueries, p * mask);
    store(slopes + j * kQueries, p * h.scale * (mask * load(slopes + j * kQueries) - delta));
  };
  if (h.drop.active()) {
    for_each_mask(h, row, head, k0, seen.closed, one);
  } else {
    for (int64_t j = 0; j < seen.closed; ++j) one(j, broadcast(1.0f));
  }
  for (int64_t j = seen.closed; j < seen.zeros(n_keys); ++j) {
    store(scores + j * kQueries, Vec{});
    store(slopes + j * kQueries, Vec{});
  }
}

// dqkv of a piece's queries, and what they add to that of their keys.
inline void attend_back(const Heads& h, const HeadRows& t, const Piece& p) {
  const int64_t n_queries = p.i1 - p.i0, n_keys = h.n_keys(p.n, p.i1);
  alignas(64) float delta[kQueries + kLanes], lse[kQueries + kLanes];
  for (int64_t head = 0; head < h.n_heads; ++head) {
    const int64_t column = head * h.width;
    const float* keys = t.qkv + p.row * t.qkv_row + h.d + column;
    const float* values = keys + h.d;
    const float* queries = t.qkv + (p.row + p.i0) * t.qkv_row + column;
    const float* gradient = t.gradient + (p.row + p.i0) * t.context_row + column;
    float* dkeys = t.dqkv + p.row * t.qkv_row + h.d + column;
    float* dqueries = t.dqkv + (p.row + p.i0) * t.qkv_row + column;
    for (int64_t i = 0; i < n_queries; ++i) {
      const float* context = t.results + (p.row + p.i0 + i) * h.d + column;
      delta[i] = dot(gradient + i * t.context_row, context, h.width);
      lse[i] = t.lse[(p.packed_row + p.i0 + i) * h.n_heads + head];
    }
    for (int64_t k0 = 0; k0 < n_keys; k0 += kKeys) {
      const int64_t n = std::min(kKeys, n_keys - k0), lanes = (n_queries + kLanes - 1) / kLanes * kLanes;
      const int64_t at = column * kWide + p.lane;
      product({keys + k0 * t.qkv_row, t.qkv_row, 1, t.queries + at, kWide, t.scores, kQueries, n, lanes, h.width});
      product({values + k0 * t.qkv_row, t.qkv_row, 1, t.gradients + at, kWide, t.slopes, kQueries, n, lanes, h.width});
      for (int64_t v = 0; v < n_queries; v += kLanes) {
        probabilities_back(h, t.scores + v, t.slopes + v, load(lse + v), load(delta + v), p.packed_row + p.i0 + v, head,
                           p.i0 + v, k0, n);
      }
      for (int64_t i = 0; i < n_queries; i += kTileRows) {
        const int64_t rows = std::min<int64_t>(kTileRows, n_queries - i);
        const int64_t reach = h.causal ? std::min(n, p.i0 + i + rows - k0) : n;
        product({t.slopes + i, 1, kQueries, keys + k0 * t.qkv_row, t.qkv_row, dqueries + i * t.qkv_row, t.qkv_row, rows,
                 h.width, reach, nullptr, k0 > 0});
      }
      // An earlier piece has begun the sums of the keys that it saw.
      const bool go_on = p.i0 > 0 && (!h.causal || k0 < p.i0);
      for (int64_t j = 0; j < n; j += kTileRows) {
        const int64_t rows = std::min<int64_t>(kTileRows, n - j);
        const int64_t i = h.causal ? std::max<int64_t>(0, k0 + j - p.i0) : 0;
        float* dkey = dkeys + (k0 + j) * t.qkv_row;
        product({t.scores + j * kQueries + i, kQueries, 1, gradient + i * t.context_row, t.context_row, dkey + h.d,
                 t.qkv_row, rows, h.width, n_queries - i, nullptr, go_on});
        product({t.slopes + j * kQueries + i, kQueries, 1, queries + i * t.qkv_row, t.qkv_row, dkey, t.qkv_row, rows,
                 h.width, n_queries - i, nullptr, go_on});
      }
    }
  }
}

}  // namespace recsys_fast
