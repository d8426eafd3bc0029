#include "bindings/bind.h"
#include "bindings/buffers.h"
#include "bindings/layers.h"
#include "ops/conv.h"

namespace recsys_fast::bindings {
namespace {

using Input = Array<const float>;
using Output = Array<float>;

// x with its row pointers, and the sizes that everything else must have.
class ConvInput {
 public:
  ConvInput(const py::object& x, const py::object& row_ptr, int64_t kernel_size)
      : x_(x, "x"), row_ptr_(row_ptr, "row_ptr"), rows_(x_.rows("dimensions of x")), kernel_size_(kernel_size) {
    check_row_ptr(row_ptr_, rows_.n);
  }
  Packed<const float> view() const { return {rows_.data, row_ptr_.data(), row_ptr_.size() - 1, rows_.d, rows_.n}; }
  template <class T>
  T* rows(const Array<T>& array, const char* name) const {
    check_size(name, array.size(), rows_.n * rows_.d);
    return array.data();
  }
  template <class T>
  T* pairs(const Array<T>& array) const {
    check_size("size of inverse", array.size(), rows_.n * 2);
    return array.data();
  }
  template <class T>
  T* weights(const Array<T>& array, const char* name) const {
    check_size(name, array.size(), kernel_size_ * rows_.d * rows_.d);
    return array.data();
  }
  template <class T>
  T* vector(const Array<T>& array, const char* name) const {
    check_size(name, array.size(), rows_.d);
    return array.data();
  }

 private:
  Input x_;
  Array<const int64_t> row_ptr_;
  Rows<const float> rows_;
  int64_t kernel_size_;
};

}  // namespace

void bind_conv(py::module_& m) {
  m.def("causal_conv_block_forward",
        [](const py::object& y, const py::object& normal1, const py::object& normal2, const py::object& inverse,
           const py::object& x, const py::object& row_ptr, const py::object& w1, const py::object& b1,
           const py::object& gamma1, const py::object& beta1, const py::object& w2, const py::object& b2,
           const py::object& gamma2, const py::object& beta2, int64_t kernel_size, int64_t dilation, float eps,
           float dropout, uint64_t seed, uint32_t step, uint32_t site, int n_threads) {
          const ConvInput in(x, row_ptr, kernel_size);
          const Output out(y, "y"), n1(normal1, "normal1"), n2(normal2, "normal2"), inv(inverse, "inverse");
          const Input a1(w1, "w1"), c1(b1, "b1"), g1(gamma1, "gamma1"), t1(beta1, "beta1");
          const Input a2(w2, "w2"), c2(b2, "b2"), g2(gamma2, "gamma2"), t2(beta2, "beta2");
          const ConvBlock block{{in.weights(a1, "size of w1"), in.vector(c1, "size of b1"),
                                 in.vector(g1, "size of gamma1"), in.vector(t1, "size of beta1")},
                                {in.weights(a2, "size of w2"), in.vector(c2, "size of b2"),
                                 in.vector(g2, "size of gamma2"), in.vector(t2, "size of beta2")},
                                kernel_size,
                                dilation,
                                {dropout, seed, step, site}};
          const ConvSaved<float> saved{in.rows(n1, "size of normal1"), in.rows(n2, "size of normal2"), in.pairs(inv)};
          float* into = in.rows(out, "size of y");
          without_gil([&] { causal_conv_block_forward<Device>(into, saved, in.view(), block, eps, n_threads); });
        });
  m.def("causal_conv_block_backward",
        [](const py::object& dx, const py::object& dw1, const py::object& db1, const py::object& dgamma1,
           const py::object& dbeta1, const py::object& dw2, const py::object& db2, const py::object& dgamma2,
           const py::object& dbeta2, const py::object& dy, const py::object& normal1, const py::object& normal2,
           const py::object& inverse, const py::object& x, const py::object& row_ptr, const py::object& w1,
           const py::object& gamma1, const py::object& beta1, const py::object& w2, const py::object& gamma2,
           const py::object& beta2, int64_t kernel_size, int64_t dilation, float dropout, uint64_t seed, uint32_t step,
           uint32_t site, int n_threads) {
          const ConvInput in(x, row_ptr, kernel_size);
          const Output out(dx, "dx"), da1(dw1, "dw1"), dc1(db1, "db1"), dg1(dgamma1, "dgamma1"), dt1(dbeta1, "dbeta1");
          const Output da2(dw2, "dw2"), dc2(db2, "db2"), dg2(dgamma2, "dgamma2"), dt2(dbeta2, "dbeta2");
          const Input given(dy, "dy"), n1(normal1, "normal1"), n2(normal2, "normal2"), inv(inverse, "inverse");
          const Input a1(w1, "w1"), g1(gamma1, "gamma1"), t1(beta1, "beta1");
          const Input a2(w2, "w2"), g2(gamma2, "gamma2"), t2(beta2, "beta2");
          const ConvBlock block{
              {in.weights(a1, "size of w1"), nullptr, in.vector(g1, "size of gamma1"), in.vector(t1, "size of beta1")},
              {in.weights(a2, "size of w2"), nullptr, in.vector(g2, "size of gamma2"), in.vector(t2, "size of beta2")},
              kernel_size,
              dilation,
              {dropout, seed, step, site}};
          const ConvSaved<const float> saved{in.rows(n1, "size of normal1"), in.rows(n2, "size of normal2"),
                                             in.pairs(inv)};
          const ConvLayerGradients first{in.weights(da1, "size of dw1"), in.vector(dc1, "size of db1"),
                                         in.vector(dg1, "size of dgamma1"), in.vector(dt1, "size of dbeta1")};
          const ConvLayerGradients second{in.weights(da2, "size of dw2"), in.vector(dc2, "size of db2"),
                                          in.vector(dg2, "size of dgamma2"), in.vector(dt2, "size of dbeta2")};
          float* into = in.rows(out, "size of dx");
          const float* from = in.rows(given, "size of dy");
          without_gil([&] {
            causal_conv_block_backward<Device>(into, first, second, from, saved, in.view(), block, n_threads);
          });
        });
}

}  // namespace recsys_fast::bindings
