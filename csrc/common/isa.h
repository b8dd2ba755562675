// Which instruction set the CPU loops use: chosen once, when first asked.
#pragma once

namespace fc {

enum class Isa { baseline = 0, v3 = 1, v4 = 2 };

// FASTCORE_CPU_ISA=baseline|v3|v4 lowers the choice; a set that the machine lacks is an error.
Isa cpu_isa();

}  // namespace fc
