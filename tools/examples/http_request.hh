// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace example {

inline constexpr std::size_t kHeadBytesMax = 8192;        // request line and headers; more is 431
inline constexpr std::size_t kHeadersMax = 100;           // more is 431
inline constexpr std::uint64_t kBodyBytesMax = 1U << 20;  // more is 413

/// The head of an HTTP/1.x request (RFC 9112). The views point into the bytes that it was parsed from.
struct HttpRequest {
  std::string_view method;
  std::string_view path;         ///< begins with '/', without query; or "*"
  int minor_version = 1;         ///< HTTP/1.0 or HTTP/1.1; a later 1.x counts as 1.1
  bool keep_alive = true;        ///< by the version and the Connection header
  std::uint64_t body_bytes = 0;  ///< Content-Length: so many bytes follow the head
  std::size_t head_bytes = 0;    ///< length of the head, with the empty line that ends it
};

struct HttpParse {
  enum class State { complete, incomplete, error };
  State state = State::incomplete;
  int status = 0;  ///< for error: what to answer before closing: 400, 413, 414, 431, 501 or 505
  HttpRequest request{};
};

/// Parses the request head at the start of `bytes`. Call again with more bytes while it is incomplete: it keeps no
/// state. A line may end in LF alone, for people who type. Obsolete line folding and transfer codings are errors.
HttpParse parse_http_request(std::string_view bytes) noexcept;

}  // namespace example
