// What the loops over modes of mmd_fourier_loop.inc and their driver in fourier_slice.h agree on. CPU only.
#pragma once
#include <cstdint>

namespace fc::mmd {

// Points are worked on 32 at a time: four groups of eight lanes.
constexpr int64_t kFourierGroups = 4, kFourierLanes = 8, kFourierTile = kFourierGroups * kFourierLanes;

struct ModeRange {
  double first;
  int64_t count;
};

struct PointRange {
  double low, high;
  bool finite;
};

// Sums of weights, of their magnitudes, of weight * u and weight * u^2.
struct Moments {
  double total = 1, absolute = 1, first = 0, second = 0;
};

template <class T>
struct FourierLoops {
  PointRange (*range_of)(const T* points, int64_t n);
  void (*place)(const T* points, int64_t n, double middle, double inverse, double* turns);
  Moments (*moments)(const double* turns, const double* weights, int64_t points);
  // sums[0, count) += sum of weight * cos(2 pi k u) over points, sums[count, 2 count) of sin; `lanes` holds 16 * count.
  void (*sum_modes)(ModeRange modes, const double* turns, const double* weights, int64_t points, double* lanes, double* sums);
  // out[i] = sum over modes of a_k cos(2 pi k u_i) + b_k sin(2 pi k u_i).
  void (*add_modes)(ModeRange modes, const double* turns, int64_t points, const double* a, const double* b, double* out);
};

}  // namespace fc::mmd
