// Sums over whole parameters, or over rows, that a step needs before it begins.
#include <torch/csrc/stable/library.h>

#include "measure_driver.h"
#include "rules.h"

namespace fc::optim {
FC_OPTIM_MEASURES(FC_OPTIM_MEASURE)
}

STABLE_TORCH_LIBRARY_IMPL(fastcore_ops, CPU, m) { FC_OPTIM_MEASURES(FC_OPTIM_REGISTER) }
