// The shared formulas as NumPy functions: property tests run the very code that the CPU loops and the CUDA kernels
// compile. A development module, never in a wheel.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "common/math.h"
#include "ot/sinkhorn_newton.h"

namespace py = pybind11;

namespace {

// Vectorised over arrays of one dtype; the name carries it, so that float32 is never widened on the way in.
template <class T>
void add_math(py::module_& m, const std::string& type) {
  m.def(("exp_" + type).c_str(), py::vectorize([](T x) { return fc::exp(x); }));
  m.def(("log_" + type).c_str(), py::vectorize([](T x) { return fc::log(x); }));
}

template <class T>
void add_transport(py::module_& m, const std::string& type) {
  using namespace fc::ot;
  m.def(("centred_cost_" + type).c_str(),
        py::vectorize([](T cost, T row_shift, T col_shift) { return centred_cost(cost, row_shift, col_shift); }));
  m.def(("score_sum_" + type).c_str(), py::vectorize([](T g_hi, T g_lo, T cost) { return score(g_hi, g_lo, cost).sum; }));
  m.def(("score_lost_" + type).c_str(), py::vectorize([](T g_hi, T g_lo, T cost) { return score(g_hi, g_lo, cost).lost; }));
  m.def(("exponent_" + type).c_str(), py::vectorize([](T sum, T lost, T row_max, T inverse_reg) {
          return exponent(sum, lost, row_max, inverse_reg);
        }));
  m.def(("sqeuclidean_" + type).c_str(),
        py::vectorize([](T x, T y) { return finish_distance<sqeuclidean>(distance_term<sqeuclidean>(x, y)); }));
  m.def(("euclidean_" + type).c_str(),
        py::vectorize([](T x, T y) { return finish_distance<euclidean>(distance_term<euclidean>(x, y)); }));
  m.def(("cityblock_" + type).c_str(),
        py::vectorize([](T x, T y) { return finish_distance<cityblock>(distance_term<cityblock>(x, y)); }));
}

}  // namespace

PYBIND11_MODULE(_probe, m) {
  add_math<float>(m, "float32");
  add_math<double>(m, "float64");
  add_transport<float>(m, "float32");
  add_transport<double>(m, "float64");
  m.def("keep_bar", py::vectorize([](double a, double b) { return fc::ot::keep_bar(a, b); }));
}
