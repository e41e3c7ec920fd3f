// SPDX-License-Identifier: MIT
// What all workers on one endpoint have in common.
#include <algorithm>

#include "primary/cluster_impl.hh"
#include "sys/error.hh"

namespace lb {

static_assert(kBlobMax == Message::kPayloadMax);

const std::string& Listeners::settle_blob(uint32_t cell, std::string_view offered) noexcept {
  Entry& entry = *find(cell);  // the worker has just been granted it
  if (const auto set = blobs_.find(entry.request.endpoint.to_string()); set != blobs_.end()) entry.blob = set->second;
  if (entry.blob.empty()) entry.blob = offered;
  return entry.blob;
}

Result<void> Listeners::set_blob(const Endpoint& endpoint, std::string_view blob) noexcept try {
  blobs_[endpoint.to_string()] = blob;
  return {};
} catch (...) {
  return Error{ENOMEM, "set_blob"};
}

Result<void> Cluster::Impl::set_blob(std::string_view endpoint, std::string_view blob) noexcept {
  if (blob.size() > kBlobMax)
    return error_naming(EMSGSIZE,
                        "set_blob: " + std::to_string(blob.size()) + " bytes (allowed: 0 to " + std::to_string(kBlobMax) + ")");
  const auto parsed = Endpoint::parse(endpoint);
  if (!parsed) return parsed.error();
  return listeners_->set_blob(*parsed, blob);
}

}  // namespace lb
