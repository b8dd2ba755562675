"""Random bits alone, for places that no tensor of a test reaches. Imported by tests that run Triton only."""

import triton
import triton.language as tl

from fastcore_ops.triton_kernels.optim_storage import random_bits


@triton.jit
def random_bits_kernel(out, numbers, SLOT: tl.constexpr, BLOCK: tl.constexpr):
    seed, step, parameter, first = (tl.load(numbers + k) for k in range(4))
    places = first + tl.arange(0, BLOCK)
    tl.store(out + tl.arange(0, BLOCK), random_bits(seed, step, parameter, SLOT, places).to(tl.int64))
