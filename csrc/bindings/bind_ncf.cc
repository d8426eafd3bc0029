#include <utility>

#include "bindings/bind.h"
#include "bindings/layers.h"
#include "ops/ncf.h"

namespace recsys_fast::bindings {
namespace {

// The widths of a network on the host, for as long as it is used.
class Widths {
 public:
  explicit Widths(const py::object& widths) : array_(widths, "widths"), numbers_(array_.on_host()) {}
  int64_t n_layers() const { return array_.size() - 1; }
  const int64_t* data() const { return &numbers_[0]; }

 private:
  Array<const int64_t> array_;
  decltype(std::declval<Array<const int64_t>&>().on_host()) numbers_;  // where they lie, or a copy
};

// A network whose sizes fit each other and rows of width d.
NcfNetwork network_of(const Array<const float>& params, const Widths& widths, int64_t d_product, int64_t d,
                      int activation, DropoutMask dropout) {
  const int64_t n_layers = widths.n_layers();
  if (n_layers < 0 || n_layers > kNcfMaxLayers) throw ShapeError("layers", n_layers, kNcfMaxLayers);
  for (int64_t l = 0; l <= n_layers; ++l) {
    if (widths.data()[l] < (l > 0 ? 1 : 0)) throw ShapeError("width of a layer", widths.data()[l], 1);
  }
  const auto kind = static_cast<Activation>(activation);
  if (activation < 0 || activation > 4 || needs_argument(kind)) throw ShapeError("activation", activation, 4);
  const NcfNetwork network{params.data(), widths.data(), n_layers, d_product, kind, dropout};
  check_size("first of widths", widths.data()[0], 2 * (d - d_product));
  if (n_layers == 0) check_size("first of widths", widths.data()[0], 0);
  check_size("size of params", params.size(), network.n_params());
  return network;
}

void check_ids(const Array<const int32_t>& ids, int64_t low, int64_t bound, const char* what) {
  const auto numbers = ids.on_host();
  for (int64_t i = 0; i < ids.size(); ++i) {
    if (numbers[i] < low || numbers[i] >= bound) throw ShapeError(what, numbers[i], bound);
  }
}

}  // namespace

void bind_ncf(py::module_& m) {
  m.def("ncf_loss", [](const py::object& dusers, const py::object& ditems, const py::object& dparams,
                       const py::object& users, const py::object& items, const py::object& user_ids,
                       const py::object& item_ids, const py::object& params, const py::object& widths,
                       int64_t d_product, int activation, float dropout, uint64_t seed, uint32_t step, uint32_t site,
                       double scale, int n_threads) {
    const Array<float> out_users(dusers, "dusers"), out_items(ditems, "ditems"), out_params(dparams, "dparams");
    const Array<const float> user_array(users, "users"), item_array(items, "items"), weights(params, "params");
    const Array<const int32_t> who(user_ids, "user_ids"), what(item_ids, "item_ids");
    const Widths sizes(widths);
    const auto user_rows = user_array.rows("dimensions of users"), item_rows = item_array.rows("dimensions of items");
    const auto pairs = what.rows("dimensions of item_ids");
    check_size("columns of items", item_rows.d, user_rows.d);
    check_size("length of user_ids", who.size(), pairs.n);
    if constexpr (kOnCpu) {  // those on a device were looked at when they came
      check_ids(who, 0, user_rows.n, "a user");
      check_ids(what, -1, item_rows.n, "an item");
    }
    check_size("size of dusers", out_users.size(), pairs.n * user_rows.d);
    check_size("size of ditems", out_items.size(), pairs.n * pairs.d * user_rows.d);
    check_size("size of dparams", out_params.size(), weights.size());
    const NcfNetwork network =
        network_of(weights, sizes, d_product, user_rows.d, activation, {dropout, seed, step, site});
    return without_gil([&] {
      return ncf_loss<Device>({out_users.data(), pairs.n, user_rows.d},
                              {out_items.data(), pairs.n * pairs.d, user_rows.d}, out_params.data(), user_rows,
                              item_rows, who.data(), pairs, network, static_cast<float>(scale), n_threads);
    });
  });
  m.def("ncf_scores", [](const py::object& out, const py::object& users, const py::object& items,
                         const py::object& params, const py::object& widths, int64_t d_product, int activation,
                         int n_threads) {
    const Array<float> scores(out, "out");
    const Array<const float> user_array(users, "users"), item_array(items, "items"), weights(params, "params");
    const Widths sizes(widths);
    const auto user_rows = user_array.rows("dimensions of users"), item_rows = item_array.rows("dimensions of items");
    check_size("columns of items", item_rows.d, user_rows.d);
    check_size("size of out", scores.size(), user_rows.n * item_rows.n);
    const NcfNetwork network = network_of(weights, sizes, d_product, user_rows.d, activation, {});
    without_gil([&] {
      ncf_scores<Device>({scores.data(), user_rows.n, item_rows.n}, user_rows, item_rows, network, n_threads);
    });
  });
}

}  // namespace recsys_fast::bindings
