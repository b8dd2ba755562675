// Checks that protect memory. Python validates with full sentences before; these say op and argument only.
#pragma once
#include <sstream>
#include <stdexcept>

namespace fc {
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw std::runtime_error(text.str());
}
}  // namespace fc

#define FC_CHECK(condition, ...)                \
  do {                                          \
    if (!(condition)) ::fc::fail(__VA_ARGS__);  \
  } while (0)
