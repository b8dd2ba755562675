// Includes FC_LOOP_FILE once per instruction set, each in a namespace of its own. The file must come after every
// header: a header first seen under a target pragma would be compiled for that target alone.
// No include guard: each family uses it once per loop file.
// FC_ONLY_V3 or FC_ONLY_V4: that instance alone, for gates that look at no other.
#ifndef FC_LOOP_FILE
#error "define FC_LOOP_FILE before including foreach_isa.h"
#endif

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define FC_HAS_X86_LEVELS 1
#include <immintrin.h>
#else  // one instance only
#undef FC_ONLY_V3
#undef FC_ONLY_V4
#endif

#if !defined(FC_ONLY_V3) && !defined(FC_ONLY_V4)
#define FC_ISA isa_baseline
#define FC_VECTOR_BYTES 16
#include FC_LOOP_FILE
#undef FC_VECTOR_BYTES
#undef FC_ISA
#endif

#if defined(FC_HAS_X86_LEVELS) && !defined(FC_ONLY_V4)
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v3")
#define FC_ISA isa_v3
#define FC_VECTOR_BYTES 32
#include FC_LOOP_FILE
#undef FC_VECTOR_BYTES
#undef FC_ISA
#pragma GCC pop_options
#endif

#if defined(FC_HAS_X86_LEVELS) && !defined(FC_ONLY_V3)
#pragma GCC push_options
#pragma GCC target("arch=x86-64-v4,prefer-vector-width=512")
#define FC_ISA isa_v4
#define FC_VECTOR_BYTES 64
#include FC_LOOP_FILE
#undef FC_VECTOR_BYTES
#undef FC_ISA
#pragma GCC pop_options
#endif

// FC_PICK_ISA(name): the instance of `name` that this machine runs.
#ifndef FC_PICK_ISA
#if defined(FC_ONLY_V3)
#define FC_PICK_ISA(...) (&isa_v3::__VA_ARGS__)
#elif defined(FC_ONLY_V4)
#define FC_PICK_ISA(...) (&isa_v4::__VA_ARGS__)
#elif defined(FC_HAS_X86_LEVELS)
#define FC_PICK_ISA(...)                                      \
  (::fc::cpu_isa() == ::fc::Isa::v4   ? &isa_v4::__VA_ARGS__ \
   : ::fc::cpu_isa() == ::fc::Isa::v3 ? &isa_v3::__VA_ARGS__ \
                                      : &isa_baseline::__VA_ARGS__)
#else
#define FC_PICK_ISA(...) (&isa_baseline::__VA_ARGS__)
#endif
#endif
#undef FC_LOOP_FILE
