// One slice's kernel distance by Fourier modes: D^2 = sum over modes of c_k |phi_x - phi_y|^2, phi(k) the weighted sum of
// e^(2 pi i k z / T), and the parabola that a kink leaves.
#pragma once
#include <algorithm>
#include <limits>
#include <map>
#include <memory>
#include <mutex>

#include "../common/aligned.h"
#include "fourier.h"
#include "fourier_modes.h"
#include "rank_slice.h"

namespace fc::mmd {

// The modes at one period; `unit` makes the series 1 at 0, and is the coefficient of the mode 0.
struct Series {
  double length;
  Window window;
  AlignedVector<double> coefficients;
  double unit;

  Series(const Spectrum& spectrum, const Band& band, double period)
      : length(period), window(find_window(spectrum, band, period)) {
    double sum = 0;
    for (double k = 0; k < window.count; ++k) {
      coefficients.push_back(mode_coefficient(spectrum, band.kink, length, window.first + k));
      sum += coefficients.back();
    }
    unit = 1 - 2 * sum;
  }
};

// Slices whose ranges are alike share a series.
class SeriesStore {
 public:
  SeriesStore(const Spectrum& spectrum, const Band& band) : spectrum_(spectrum), band_(band) {}

  const Series& of_range(double range) {
    const double length = band_.stretch * rounded_up(range) + band_.margin;
    std::lock_guard<std::mutex> lock(guard_);
    std::unique_ptr<Series>& found = made_[length];
    if (!found) found = std::make_unique<Series>(spectrum_, band_, length);
    return *found;
  }
  const Band& band() const { return band_; }

 private:
  const Spectrum spectrum_;
  const Band band_;
  std::mutex guard_;
  std::map<double, std::unique_ptr<Series>> made_;
};

// One sample of a slice: positions as turns of the first mode, padded to whole tiles with points of no weight.
struct FourierSide {
  RawVector<double> turns, weights, sums;
  int64_t size = 0;
  double share = 1;
  Moments moments;

  int64_t padded() const { return (size + kFourierTile - 1) / kFourierTile * kFourierTile; }

  template <class T>
  void fill(const FourierLoops<T>& loops, const T* points, const double* given, int64_t n, double middle, double inverse,
            bool unbiased, bool needs_moments) {
    size = n;
    share = unbiased ? n / double(n - 1) : 1;
    if (int64_t(turns.size()) < padded()) {
      turns.resize(padded());
      weights.resize(padded());
      std::fill(weights.begin(), weights.end(), 1.0);
    }
    loops.place(points, n, middle, inverse, turns.data());
    if (given) std::copy_n(given, n, weights.data());
    for (int64_t i = n; i < padded(); ++i) turns[i] = weights[i] = 0;
    moments = {};
    if (given || needs_moments) moments = loops.moments(turns.data(), weights.data(), padded());
    if (!given) moments = {1, 1, moments.first / double(n), moments.second / double(n)};
  }
  template <class T>
  void sum_up(const FourierLoops<T>& loops, ModeRange modes, bool uniform, RawVector<double>& lanes) {
    sums.resize(2 * modes.count);
    lanes.resize(2 * kFourierLanes * modes.count);
    loops.sum_modes(modes, turns.data(), weights.data(), padded(), lanes.data(), sums.data());
    if (uniform)
      for (double& sum : sums) sum /= double(size);
  }
};

template <class T>
class FourierSlice {
 public:
  FourierSlice(const FourierLoops<T>& loops, SeriesStore& store, double bandwidth, bool unbiased)
      : loops_(loops), store_(store), bandwidth_(bandwidth), unbiased_(unbiased) {}

  // Returns how many modes the band asks for.
  int64_t run(const T* x, const T* y, int64_t n, int64_t m, const double* a, const double* b, const SliceOutputs<T>& out) {
    const PointRange of_x = loops_.range_of(x, n), of_y = loops_.range_of(y, m);
    const double low = std::min(of_x.low, of_y.low), range = std::max(of_x.high, of_y.high) - low;
    const double relative = range / bandwidth_;
    if (!of_x.finite || !of_y.finite || !(relative - relative == 0)) return spoil(out, n, m);
    series_ = &store_.of_range(relative);
    const double period = series_->length * bandwidth_, middle = low + 0.5 * range;
    const bool kinked = store_.band().kink != 0;
    x_.fill(loops_, x, a, n, middle, 1 / period, unbiased_, kinked);
    y_.fill(loops_, y, b, m, middle, 1 / period, unbiased_, kinked);
    const ModeRange modes{series_->window.first, int64_t(series_->window.count)};
    x_.sum_up(loops_, modes, !a, lanes_);
    y_.sum_up(loops_, modes, !b, lanes_);
    kink_ = store_.band().kink * series_->length;  // kappa / T * T^2, positions being turns
    drop_rounding(modes.count);
    if (out.value) *out.value = value();
    emit(x_, y_, a, period, modes, out.grad_x, out.potential_x);
    emit(y_, x_, b, period, modes, out.grad_y, out.potential_y);
    return int64_t(series_->window.wanted);
  }

 private:
  static int64_t spoil(const SliceOutputs<T>& out, int64_t n, int64_t m) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    if (out.grad_x) std::fill_n(out.grad_x, n, T(nan));
    if (out.grad_y) std::fill_n(out.grad_y, m, T(nan));
    if (out.value) *out.value = nan;
    if (out.potential_x) std::fill_n(out.potential_x, n, nan);
    if (out.potential_y) std::fill_n(out.potential_y, m, nan);
    return 0;
  }

  // Sums of the two samples that differ by no more than the order of their points are the same: x = y is worth exactly 0.
  void drop_rounding(int64_t count) {
    const double eps = std::numeric_limits<double>::epsilon(), points = double(std::max(x_.size, y_.size));
    const double bar = eps * (8 + std::sqrt(points / kFourierTile)) * (x_.moments.absolute + y_.moments.absolute);
    const auto join = [bar](double& left, double right) { left = std::fabs(left - right) <= bar ? right : left; };
    for (int64_t k = 0; k < 2 * count; ++k) join(x_.sums[k], y_.sums[k]);
    join(x_.moments.total, y_.moments.total);
    join(x_.moments.first, y_.moments.first);
    join(x_.moments.second, y_.moments.second);
  }

  double value() const {
    const AlignedVector<double>& c = series_->coefficients;
    const int64_t count = int64_t(c.size());
    const auto square = [count](const auto& sums, int64_t k) { return sums[k] * sums[k] + sums[count + k] * sums[count + k]; };
    double total = 0;
    for (int64_t k = 0; k < count; ++k) {
      const double p = x_.sums[k] - y_.sums[k], q = x_.sums[count + k] - y_.sums[count + k];
      double term = p * p + q * q;
      if (unbiased_) term += (square(x_.sums, k) - 1) * (x_.share - 1) + (square(y_.sums, k) - 1) * (y_.share - 1);
      total += c[k] * term;
    }
    const double gap = x_.moments.total - y_.moments.total, shift = x_.moments.first - y_.moments.first;
    double parabola = shift * shift - gap * (x_.moments.second - y_.moments.second);
    if (unbiased_) parabola -= variance(x_) * (x_.share - 1) + variance(y_) * (y_.share - 1);
    return total + 0.5 * series_->unit * gap * gap - kink_ * parabola;
  }
  static double variance(const FourierSide& side) { return side.moments.second - side.moments.first * side.moments.first; }

  // Gradient and potential of one sample, with what it sees: its own sums (in the U-statistic more than once) less the other's.
  void emit(const FourierSide& own, const FourierSide& other, const double* given, double period, ModeRange modes, T* gradient,
            double* potential) {
    if (!gradient && !potential) return;
    const int64_t count = modes.count;
    for (auto* vector : {&a_, &b_}) vector->resize(count);
    out_.resize(own.padded());
    const double uniform = 1 / double(own.size);
    const double c0 = other.moments.total - own.share * own.moments.total;
    const double c1 = other.moments.first - own.share * own.moments.first;
    const double c2 = other.moments.second - own.share * own.moments.second;
    const auto seen = [&](int64_t k) {
      return 2 * series_->coefficients[k % count] * (own.share * own.sums[k] - other.sums[k]);
    };
    if (gradient) {
      for (int64_t k = 0; k < count; ++k) {
        const double angle = 2 * 3.14159265358979323846 * (modes.first + double(k));
        a_[k] = angle * seen(count + k);
        b_[k] = -angle * seen(k);
      }
      loops_.add_modes(modes, own.turns.data(), own.padded(), a_.data(), b_.data(), out_.data());
      for (int64_t i = 0; i < own.size; ++i) {
        const double slope = out_[i] - kink_ * 2 * (c0 * own.turns[i] - c1), w = given ? given[i] : uniform;
        gradient[i] = T(w * (slope / period));
      }
    }
    if (!potential) return;
    for (int64_t k = 0; k < count; ++k) a_[k] = seen(k), b_[k] = seen(count + k);
    loops_.add_modes(modes, own.turns.data(), own.padded(), a_.data(), b_.data(), out_.data());
    const double constant = -series_->unit * c0 - (own.share - 1) - kink_ * c2;
    for (int64_t i = 0; i < own.size; ++i) {
      const double u = own.turns[i];
      potential[i] = out_[i] + constant - kink_ * (c0 * u * u - 2 * c1 * u);
    }
  }

  const FourierLoops<T> loops_;
  SeriesStore& store_;
  const double bandwidth_;
  const bool unbiased_;
  const Series* series_ = nullptr;
  double kink_ = 0;
  FourierSide x_, y_;
  RawVector<double> lanes_, a_, b_, out_;
};

}  // namespace fc::mmd
