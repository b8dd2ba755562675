// One slice's distance by sums of exponentials: sort the union, join what coincides, sum along it, scatter.
#pragma once
#include <limits>

#include "../common/flush_denormals.h"
#include "soe.h"
#include "rank_slice.h"

namespace fc::mmd {

struct SoeJob {
  int64_t kernel;
  double r, quadratic, scale;
  bool unbiased;
};

using SoeSums = void (*)(const SoeTable&, double log_shift, const double* z, const double* gaps, const double* c, int64_t n,
                         double* slope, double* sum);

template <class T>
class SoeSlice {
 public:
  SoeSlice(const SoeJob& job, const SoeTable& table, SoeSums sums) : job_(job), table_(table), sums_(sums) {}

  void run(const T* x, const T* y, int64_t n, int64_t m, const double* a, const double* b, const SliceOutputs<T>& out) {
    n_ = n, m_ = m, a_ = a, b_ = b;
    sort(x, y);
    const double low = 0.5 * double(values_[0]), high = 0.5 * double(values_[n + m - 1]);
    if (!(low - low == 0) || !(high - high == 0)) return fill(out, std::numeric_limits<double>::quiet_NaN());
    half_range_ = high - low;
    if (!(half_range_ > 0)) return fill(out, 0.0);
    join(0.5 * (low + high));
    scale();
    const bool sums = out.value || out.potential_x || out.potential_y;
    double value = 0;
    if (!job_.unbiased) {  // both sides see the same, but for the sign
      sum_up(true, out.grad_x || out.grad_y, sums);
      value = visit<true, true>(1, -1, out);
    } else {
      if (out.grad_x || sums) {
        sum_up(true, out.grad_x, sums);
        value += visit<true, false>(1, 0, out);
      }
      if (out.grad_y || sums) {
        sum_up(false, out.grad_y, sums);
        value += visit<false, true>(0, 1, out);
      }
    }
    if (out.value) *out.value = 0.5 * value;
  }

 private:
  static int64_t padded(int64_t size) { return (size + 255) / 256 * 256; }

  void sort(const T* x, const T* y) {
    const int64_t size = n_ + m_;
    if (int64_t(values_.size()) < size) {
      values_.resize(size);
      places_.resize(size);
      run_of_.resize(size);
      gradient_.resize(size);
      for (auto* vector : {&z_, &gaps_, &c_, &mass_x_, &mass_y_, &slope_, &sum_, &potential_}) vector->resize(padded(size));
    }
    sorter_.begin(size);
    sorter_.add(x, n_);
    sorter_.add(y, m_);
    sorter_.sort(values_.data(), places_.data());
  }

  // Distinct positions in [-1/2, 1/2], and the masses of x and y at each. Uniform weights are counted: sums are exact.
  void join(double half_middle) {
    const double inverse = 1 / half_range_;
    double masses[2] = {0, 0};
    runs_ = 0;
    for (int64_t k = 0; k < n_ + m_; ++k) {
      const int64_t place = places_[k], side = place >= n_;
      masses[side] += a_ ? weight(place, side) : 1.0;
      run_of_[k] = int32_t(runs_);
      if (k + 1 < n_ + m_ && values_[k + 1] == values_[k]) continue;
      z_[runs_] = (0.5 * double(values_[k]) - half_middle) * inverse;
      mass_x_[runs_] = masses[0];
      mass_y_[runs_++] = masses[1];
      masses[0] = masses[1] = 0;
      if (k + 1 < n_ + m_) gaps_[runs_] = (0.5 * double(values_[k + 1]) - 0.5 * double(values_[k])) * inverse;
    }
    for (int64_t u = runs_; u < padded(runs_); ++u) z_[u] = c_[u] = 0;
  }
  double weight(int64_t place, int64_t side) const { return side ? b_[place - n_] : a_[place]; }

  void scale() {
    const double range = 2 * half_range_, power = job_.kernel == kRiesz ? job_.r : job_.kernel == kLog ? 0 : 2;
    sum_scale_ = job_.scale * std::pow(range, power);
    slope_scale_ = job_.scale * std::pow(range, power - 1);
    log_range_ = std::log(range);
  }

  // What a point of one side sees: the other side's mass less its own (in the U-statistic more than once).
  void sum_up(bool of_x, bool slope, bool sum) {
    const int64_t own = of_x ? n_ : m_, other = of_x ? m_ : n_, pairs = job_.unbiased ? own - 1 : own;
    const double *far = of_x ? mass_y_.data() : mass_x_.data(), *near = of_x ? mass_x_.data() : mass_y_.data();
    total_ = 0;
    for (int64_t u = 0; u < runs_; ++u) {
      // Uniform weights: integers, 0 where the two sides agree.
      c_[u] = a_ ? far[u] - near[u] : (far[u] * double(pairs) - near[u] * double(other)) / (double(pairs) * double(other));
      total_ += c_[u];
    }
    slopes_known_ = slope;
    sums_known_ = sum;
    const FlushDenormals flush;
    const double shift = job_.kernel == kThinPlate ? log_range_ + job_.quadratic : 0.0;
    sums_(table_, shift, z_.data(), gaps_.data(), c_.data(), runs_, slope ? slope_.data() : nullptr,
          sum ? sum_.data() : nullptr);
  }

  // Gradients and potentials of x, of y or of both, for which the sums count with these signs; returns the sum of weight *
  // potential. Sides come in random order: no branch on them.
  template <bool of_x, bool of_y>
  double visit(double sign_x, double sign_y, const SliceOutputs<T>& out) {
    const double sign[2] = {sign_x, sign_y}, uniform[2] = {1 / double(n_), 1 / double(m_)};
    const double share[2] = {job_.unbiased ? n_ / double(n_ - 1) : 1, job_.unbiased ? m_ / double(m_ - 1) : 1};
    double value[2] = {0, 0};
    for (int64_t k = 0; k < n_ + m_; ++k) {
      const int64_t place = places_[k], side = place >= n_, u = run_of_[k];
      const double w = a_ ? weight(place, side) : uniform[side];
      if (slopes_known_) gradient_[place] = T(sign[side] * slope_scale_ * w * slope_[u]);
      if (!sums_known_) continue;
      double seen = sign[side] * sum_[u];
      if (job_.kernel == kLog) seen += logarithms(sign[side] * c_[u], sign[side] * total_, share[side] * w);
      potential_[place] = seen *= sum_scale_;
      value[side] += w * seen;
    }
    if (of_x && out.grad_x) std::copy_n(gradient_.data(), n_, out.grad_x);
    if (of_y && out.grad_y) std::copy_n(gradient_.data() + n_, m_, out.grad_y);
    if (of_x && out.potential_x) std::copy_n(potential_.data(), n_, out.potential_x);
    if (of_y && out.potential_y) std::copy_n(potential_.data() + n_, m_, out.potential_y);
    return (of_x ? value[0] : 0) + (of_y ? value[1] : 0);
  }
  // log t = log(t / range) + log(range), and coinciding points; a point's own share of both is left out.
  double logarithms(double here, double total, double own) const {
    return (here + own) * closest_ + (total + own) * log_range_;
  }

  void fill(const SliceOutputs<T>& out, double value) const {
    if (out.grad_x) std::fill_n(out.grad_x, n_, T(value));
    if (out.grad_y) std::fill_n(out.grad_y, m_, T(value));
    if (out.value) *out.value = value;
    if (out.potential_x) std::fill_n(out.potential_x, n_, value);
    if (out.potential_y) std::fill_n(out.potential_y, m_, value);
  }

  const SoeJob job_;
  const SoeTable& table_;
  const SoeSums sums_;
  const double closest_ = std::log(kClosest);
  Sorter<T> sorter_;
  RawVector<T> values_, gradient_;
  Places places_, run_of_;
  RawVector<double> z_, gaps_, c_, mass_x_, mass_y_, slope_, sum_, potential_;
  int64_t n_ = 0, m_ = 0, runs_ = 0;
  const double *a_ = nullptr, *b_ = nullptr;
  bool slopes_known_ = false, sums_known_ = false;
  double half_range_ = 0, sum_scale_ = 0, slope_scale_ = 0, log_range_ = 0, total_ = 0;
};

}  // namespace fc::mmd
