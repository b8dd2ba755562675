// The loops between 16-bit storage and float32.
#include "../common/isa.h"
#include "staging.h"

#define FC_LOOP_FILE "../optim/optim_convert.inc"
#include "../common/foreach_isa.h"

namespace fc::optim {
namespace {

template <class P, int mode>
Converter loops() {
  return {FC_PICK_ISA(widen<P, mode>), FC_PICK_ISA(narrow<P, mode>)};
}

template <class P>
Converter of_mode(int64_t rounding) {
  if (rounding == stochastic) return loops<P, stochastic>();
  if (rounding == kahan) return loops<P, kahan>();
  if (rounding == split_master) return loops<P, split_master>();
  if (rounding == master) return loops<P, master>();
  return loops<P, to_nearest>();
}

}  // namespace

Converter converter(ScalarType type, int64_t rounding) {
  return type == ScalarType::BFloat16 ? of_mode<BFloat16>(rounding) : of_mode<Float16>(rounding);
}

}  // namespace fc::optim
