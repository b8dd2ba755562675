// The other rules.
#include <torch/csrc/stable/library.h>

#include "step_driver.h"

namespace fc::optim {
FC_OPTIM_OTHER_RULES(FC_OPTIM_CPU)
}

STABLE_TORCH_LIBRARY_IMPL(fastcore_ops, CPU, m) { FC_OPTIM_OTHER_RULES(FC_OPTIM_REGISTER) }
