// SPDX-License-Identifier: MIT
// What people and peers write: endpoints and policies. What parses is printed so that it parses to the same again.
#include <cstdlib>
#include <lb/endpoint.hh>
#include <lb/policy.hh>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(bytes), size);
  if (const auto endpoint = lb::Endpoint::parse(text)) {
    const auto again = lb::Endpoint::parse(endpoint->to_string());
    if (!again || !(*again == *endpoint)) std::abort();
  }
  if (const auto policy = lb::Policy::parse(text)) {
    const auto again = lb::Policy::parse(policy->to_string());
    if (!again || again->to_string() != policy->to_string()) std::abort();
  }
  return 0;
}
