#include "bindings/bind.h"
#include "bindings/layers.h"
#include "ops/recurrent.h"

namespace recsys_fast::bindings {
namespace {

// x, h0, row_ptr, w_x, w_h as arrays for the duration of a call, and the layer that they make.
class Layer {
 public:
  Layer(int64_t n_gates, bool memory, const py::object& x, const py::object& h0, const py::object& row_ptr,
        const py::object& w_x, const py::object& w_h)
      : x_(x, "x"), h0_(h0, "h0"), row_ptr_(row_ptr, "row_ptr"), w_x_(w_x, "w_x"), w_h_(w_h, "w_h") {
    const auto rows = x_.rows("dimensions of x");
    const auto from_h = w_h_.rows("dimensions of w_h");
    d_ = from_h.n;
    width_ = n_gates * d_;
    n_rows_ = rows.n;
    check_row_ptr(row_ptr_, n_rows_);
    n_sequences_ = row_ptr_.size() - 1;
    state_floats_ = n_sequences_ * (memory ? 2 * d_ : d_);
    check_size("columns of w_h", from_h.d, width_);
    check_size("size of w_x", w_x_.size(), rows.d * width_);
    layer_ = {{rows.data, row_ptr_.data(), n_sequences_, rows.d, n_rows_},
              optional("size of h0", h0_, state_floats_),
              w_x_.data(),
              w_h_.data(),
              nullptr,
              nullptr,
              d_};
  }

  // A pointer to n_rows x columns numbers, or null where the array is empty.
  template <class T>
  T* rows(const Array<T>& array, const char* name, int64_t columns, bool optional = false) const {
    if (!optional || array.size() != 0) check_size(name, array.size(), n_rows_ * columns);
    return array.data_or_null();
  }
  RecurrentLayer with_bias(const Array<const float>& b_x, const Array<const float>& b_h) const {
    RecurrentLayer layer = layer_;
    layer.b_x = optional("length of b_x", b_x, width_);
    layer.b_h = optional("length of b_h", b_h, width_);
    return layer;
  }
  const RecurrentLayer& get() const { return layer_; }
  int64_t d() const { return d_; }
  int64_t width() const { return width_; }
  int64_t state_floats() const { return state_floats_; }

 private:
  Array<const float> x_, h0_;
  Array<const int64_t> row_ptr_;
  Array<const float> w_x_, w_h_;
  int64_t d_ = 0, width_ = 0, n_rows_ = 0, n_sequences_ = 0, state_floats_ = 0;
  RecurrentLayer layer_{};
};

// The six arrays of a backward pass's results.
class LayerGradients {
 public:
  LayerGradients(const py::object& dx, const py::object& dh0, const py::object& dw_x, const py::object& dw_h,
                 const py::object& db_x, const py::object& db_h)
      : dx_(dx, "dx"),
        dh0_(dh0, "dh0"),
        dw_x_(dw_x, "dw_x"),
        dw_h_(dw_h, "dw_h"),
        db_x_(db_x, "db_x"),
        db_h_(db_h, "db_h") {}

  RecurrentGradients get(const Layer& layer) const {
    const int64_t d_in = layer.get().x.d;
    check_size("size of dw_x", dw_x_.size(), d_in * layer.width());
    check_size("size of dw_h", dw_h_.size(), layer.d() * layer.width());
    return {layer.rows(dx_, "size of dx", d_in, true),
            optional("size of dh0", dh0_, layer.state_floats()),
            dw_x_.data(),
            dw_h_.data(),
            optional("length of db_x", db_x_, layer.width()),
            optional("length of db_h", db_h_, layer.width())};
  }

 private:
  Array<float> dx_, dh0_, dw_x_, dw_h_, db_x_, db_h_;
};

using Object = const py::object&;

void gru_run(Object h, Object gates, Object x, Object h0, Object row_ptr, Object w_x, Object w_h, Object b_x,
             Object b_h, int n_threads) {
  const Layer layer(3, false, x, h0, row_ptr, w_x, w_h);
  const Array<float> h_array(h, "h"), gates_array(gates, "gates");
  const Array<const float> b_x_array(b_x, "b_x"), b_h_array(b_h, "b_h");
  const RecurrentStates<float> states{layer.rows(h_array, "size of h", layer.d()), nullptr,
                                      layer.rows(gates_array, "size of gates", 4 * layer.d(), true)};
  const RecurrentLayer all = layer.with_bias(b_x_array, b_h_array);
  without_gil([&] { gru_forward<Device>(states, all, n_threads); });
}

void gru_back(Object dx, Object dh0, Object dw_x, Object dw_h, Object db_x, Object db_h, Object dh, Object h,
              Object gates, Object x, Object h0, Object row_ptr, Object w_x, Object w_h, int64_t truncate,
              int n_threads) {
  const Layer layer(3, false, x, h0, row_ptr, w_x, w_h);
  const LayerGradients arrays(dx, dh0, dw_x, dw_h, db_x, db_h);
  const Array<const float> dh_array(dh, "dh"), h_array(h, "h"), gates_array(gates, "gates");
  const RecurrentGradients gradients = arrays.get(layer);
  const float* from = layer.rows(dh_array, "size of dh", layer.d());
  const RecurrentStates<const float> states{layer.rows(h_array, "size of h", layer.d()), nullptr,
                                            layer.rows(gates_array, "size of gates", 4 * layer.d())};
  without_gil([&] { gru_backward<Device>(gradients, from, states, layer.get(), truncate, n_threads); });
}

void lstm_run(Object h, Object c, Object gates, Object x, Object h0, Object row_ptr, Object w_x, Object w_h, Object b_x,
              Object b_h, int n_threads) {
  const Layer layer(4, true, x, h0, row_ptr, w_x, w_h);
  const Array<float> h_array(h, "h"), c_array(c, "c"), gates_array(gates, "gates");
  const Array<const float> b_x_array(b_x, "b_x"), b_h_array(b_h, "b_h");
  const RecurrentStates<float> states{layer.rows(h_array, "size of h", layer.d()),
                                      layer.rows(c_array, "size of c", layer.d()),
                                      layer.rows(gates_array, "size of gates", 4 * layer.d(), true)};
  const RecurrentLayer all = layer.with_bias(b_x_array, b_h_array);
  without_gil([&] { lstm_forward<Device>(states, all, n_threads); });
}

void lstm_back(Object dx, Object dh0, Object dw_x, Object dw_h, Object db_x, Object db_h, Object dh, Object h, Object c,
               Object gates, Object x, Object h0, Object row_ptr, Object w_x, Object w_h, int64_t truncate,
               int n_threads) {
  const Layer layer(4, true, x, h0, row_ptr, w_x, w_h);
  const LayerGradients arrays(dx, dh0, dw_x, dw_h, db_x, db_h);
  const Array<const float> dh_array(dh, "dh"), h_array(h, "h"), c_array(c, "c"), gates_array(gates, "gates");
  const RecurrentGradients gradients = arrays.get(layer);
  const float* from = layer.rows(dh_array, "size of dh", layer.d());
  const RecurrentStates<const float> states{layer.rows(h_array, "size of h", layer.d()),
                                            layer.rows(c_array, "size of c", layer.d()),
                                            layer.rows(gates_array, "size of gates", 4 * layer.d())};
  without_gil([&] { lstm_backward<Device>(gradients, from, states, layer.get(), truncate, n_threads); });
}

void rnn_run(Object h, Object x, Object h0, Object row_ptr, Object w_x, Object w_h, Object b_x, Object b_h,
             int activation, int n_threads) {
  const Layer layer(1, false, x, h0, row_ptr, w_x, w_h);
  const Array<float> h_array(h, "h");
  const Array<const float> b_x_array(b_x, "b_x"), b_h_array(b_h, "b_h");
  const RecurrentStates<float> states{layer.rows(h_array, "size of h", layer.d()), nullptr, nullptr};
  const RecurrentLayer all = layer.with_bias(b_x_array, b_h_array);
  without_gil([&] { rnn_forward<Device>(states, all, static_cast<RecurrentActivation>(activation), n_threads); });
}

void rnn_back(Object dx, Object dh0, Object dw_x, Object dw_h, Object db_x, Object db_h, Object dh, Object h, Object x,
              Object h0, Object row_ptr, Object w_x, Object w_h, int activation, int64_t truncate, int n_threads) {
  const Layer layer(1, false, x, h0, row_ptr, w_x, w_h);
  const LayerGradients arrays(dx, dh0, dw_x, dw_h, db_x, db_h);
  const Array<const float> dh_array(dh, "dh"), h_array(h, "h");
  const RecurrentGradients gradients = arrays.get(layer);
  const float* from = layer.rows(dh_array, "size of dh", layer.d());
  const RecurrentStates<const float> states{layer.rows(h_array, "size of h", layer.d()), nullptr, nullptr};
  const auto kind = static_cast<RecurrentActivation>(activation);
  without_gil([&] { rnn_backward<Device>(gradients, from, states, layer.get(), kind, truncate, n_threads); });
}

}  // namespace

void bind_recurrent(py::module_& m) {
  m.def("gru_forward", &gru_run);
  m.def("gru_backward", &gru_back);
  m.def("lstm_forward", &lstm_run);
  m.def("lstm_backward", &lstm_back);
  m.def("rnn_forward", &rnn_run);
  m.def("rnn_backward", &rnn_back);
}

}  // namespace recsys_fast::bindings
