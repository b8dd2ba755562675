// What the optimizers' loops and their drivers agree on.
#pragma once
#include <cstdint>

#include "../common/reduce.h"
#include "rounding.h"

namespace fc::optim {

constexpr int kMostStates = 6;
constexpr int kMostNumbers = 1;
constexpr int64_t kStepBytes = 128;  // room for any rule's Step

// What happens to a gradient before the rule sees it: unscaled, negated and clipped by one factor, made perpendicular to the
// parameter, cut to [-limit, limit].
struct Prologue {
  double factor, perp_scale, perp_along, limit;
  bool perpendicular, limited;
};

// side: -1 to climb. column: the parameter's coefficients, `stride` numbers apart; null where there are none.
FC_HD Prologue make_prologue(double side, double grad_scale, const double* column, int64_t stride) {
  Prologue made{side / grad_scale, 1, 0, 0, false, false};
  if (column == nullptr) return made;
  made.factor *= column[0];
  made.perp_scale = column[stride];
  made.perp_along = column[2 * stride];
  made.limit = column[3 * stride];
  made.perpendicular = made.perp_scale != 1 || made.perp_along != 0;
  made.limited = made.limit < Limits<double>::infinity;
  return made;
}

// A run of elements of one parameter as they are stored, within which the upper half of an element's place does not change.
struct Chunk {
  void *parameter, *extra;
  const void* gradient;
  void* state[kMostStates];
  int64_t count, place;  // place: of the first element in the whole parameter, for random bits
  int64_t extra_bytes;   // per element
  int64_t rounding, seed, step, id;
};

// Elements in the type of the arithmetic, as the loops take them.
struct Block {
  void* parameter;
  const void* gradient;
  void* state[kMostStates];
  int64_t count;
};

using StepBlock = void (*)(const Block&, const Prologue&, const void* step);
using MeasureBlock = void (*)(const Block&, const Prologue&, const void* step, double* out);
using ProjectBlock = void (*)(const Block&, const Prologue&, const void* step, double share, bool projected);

// One element or vector of gradient through the prologue; p is the parameter that the rule sees.
template <class T>
struct GradientStep {
  T factor, scale, along, limit;
  bool perpendicular, limited;

  FC_HD explicit GradientStep(const Prologue& from)
      : factor(T(from.factor)), scale(T(from.perp_scale)), along(T(from.perp_along)), limit(T(from.limit)),
        perpendicular(from.perpendicular), limited(from.limited) {}

  template <class V>
  FC_HD V apply(V p, V g) const {
    g *= factor;
    if (perpendicular) g = (g - p * along) * scale;
    if (limited) g = select(g > limit, V{} + limit, select(g < -limit, V{} - limit, g));
    return g;
  }
};

}  // namespace fc::optim
