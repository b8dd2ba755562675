// The hint of huge_pages.h for memory that torch has handed out and nobody has written to.
#include <torch/csrc/stable/library.h>

#include "huge_pages.h"
#include "tensor.h"

namespace fc {
namespace {

void prefer_huge_pages_op(Tensor memory, int64_t element_bytes) {
  prefer_huge_pages(memory.data_ptr(), size_t(memory.numel() * element_bytes));
}

}  // namespace
}  // namespace fc

STABLE_TORCH_LIBRARY_IMPL(fastcore_ops, CPU, m) { m.impl("prefer_huge_pages", TORCH_BOX(&fc::prefer_huge_pages_op)); }
