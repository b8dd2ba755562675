#include "isa.h"

#include <torch/csrc/stable/library.h>

#include <cstdlib>
#include <string>

#include "check.h"

namespace fc {
namespace {

Isa best_of_machine() {
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
  if (__builtin_cpu_supports("x86-64-v4")) return Isa::v4;
  if (__builtin_cpu_supports("x86-64-v3")) return Isa::v3;
#endif
  return Isa::baseline;
}

Isa choose() {
  const Isa best = best_of_machine();
  const char* wanted = std::getenv("FASTCORE_CPU_ISA");
  if (!wanted || !*wanted) return best;
  const char* names[] = {"baseline", "v3", "v4"};
  for (int level = 0; level < 3; ++level) {
    if (std::string(wanted) != names[level]) continue;
    FC_CHECK(level <= int(best), "FASTCORE_CPU_ISA=", wanted, ": this machine supports up to ", names[int(best)]);
    return Isa(level);
  }
  fail("FASTCORE_CPU_ISA: expected baseline, v3 or v4, got ", wanted);
}

int64_t cpu_isa_op() { return int64_t(cpu_isa()); }

}  // namespace

Isa cpu_isa() {
  static const Isa chosen = choose();
  return chosen;
}

}  // namespace fc

STABLE_TORCH_LIBRARY_IMPL(fastcore_ops, CompositeExplicitAutograd, m) {
  m.impl("cpu_isa", TORCH_BOX(&fc::cpu_isa_op));
}
