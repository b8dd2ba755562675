// The shared formulas as NumPy functions: property tests run the very code that the CPU loops and the CUDA kernels
// compile. A development module, never in a wheel.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "common/math.h"
#include "mmd/rank.h"
#include "mmd/split.h"
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

template <class T>
void add_rank(py::module_& m, const std::string& type) {
  using namespace fc::mmd;
  m.def(("ordered_key_" + type).c_str(), py::vectorize([](T x) { return ordered_key(x); }));
  m.def(("from_key_" + type).c_str(), py::vectorize([](word_of<T> key) { return from_key<T>(key); }));
}

void add_distances(py::module_& m) {
  using namespace fc::mmd;
  m.def("rank_numerator", py::vectorize([](int64_t own, int64_t other, bool unbiased, double q_own, double q_other) {
          return rank_numerator(uniform_side(own, other, unbiased), q_own, q_other);
        }));
  m.def("rank_scale", py::vectorize([](int64_t own, int64_t other, bool unbiased) { return uniform_side(own, other, unbiased).scale; }));
  m.def("value_term", py::vectorize([](double gap, double running, double total) { return value_term(gap, running, total); }));
  m.def("potential_slope", py::vectorize([](double running, double total) { return potential_slope(running, total); }));
  m.def("split_part_of", py::vectorize([](float x, int k) { return fc::from_bfloat16<float>(split_number(x).part[k].bits); }));
}

}  // namespace

PYBIND11_MODULE(_probe, m) {
  add_math<float>(m, "float32");
  add_math<double>(m, "float64");
  add_transport<float>(m, "float32");
  add_transport<double>(m, "float64");
  add_rank<float>(m, "float32");
  add_rank<double>(m, "float64");
  add_distances(m);
  m.def("keep_bar", py::vectorize([](double a, double b) { return fc::ot::keep_bar(a, b); }));
}
