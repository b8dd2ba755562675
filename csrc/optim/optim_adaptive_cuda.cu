// The rules with averages of the gradient and of its square, on CUDA.
#include "step_launcher.cuh"

namespace fc::optim {
FC_OPTIM_ADAPTIVE_RULES(FC_OPTIM_CUDA)
}

STABLE_TORCH_LIBRARY_IMPL(FC_OPS_NAMESPACE, FC_OPS_KEY, m) { FC_OPTIM_ADAPTIVE_RULES(FC_OPTIM_REGISTER) }
