// What it costs to move mass over a distance on a line.
#pragma once
#include <cmath>

#include "../common/hd.h"

namespace fc::mmd {

// |d|^p and its derivative, p |d|^(p - 1) sign(d), for p >= 1; 0 at d = 0, where p = 1 has none.
struct Transport {
  double cost, slope;
};

FC_HD Transport transport(double d, double p) {
  const double size = d < 0 ? -d : d, sign = d > 0 ? 1.0 : d < 0 ? -1.0 : 0.0;
  if (p == 2.0) return {size * size, 2.0 * d};
  if (p == 1.0) return {size, sign};
  if (size == 0.0) return {0.0, 0.0};
  const double power = ::pow(size, p - 1.0);
  return {size * power, p * power * sign};
}

}  // namespace fc::mmd
