// The rules whose steps need sums.
#include <torch/csrc/stable/library.h>

#include "project_driver.h"
#include "step_driver.h"

namespace fc::optim {
FC_OPTIM_TWO_PHASE_RULES(FC_OPTIM_CPU)
FC_OPTIM_PROJECTED_RULES(FC_OPTIM_PROJECTED)
}

STABLE_TORCH_LIBRARY_IMPL(fastcore_ops, CPU, m) {
  FC_OPTIM_TWO_PHASE_RULES(FC_OPTIM_REGISTER)
  FC_OPTIM_PROJECTED_RULES(FC_OPTIM_REGISTER)
  m.impl("optim_scaled_rows_", TORCH_BOX(&fc::optim::optim_scaled_rows_));
}
