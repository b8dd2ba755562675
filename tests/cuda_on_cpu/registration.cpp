// Defines the operators of fastcore_ops a second time, in the namespace of the CPU twin; the .cu files
// beside which this is linked register their kernels there.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(fastcore_cuda_on_cpu, m) {
#include "schemas.inc"
}
