// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "options.hh"

namespace lbbench {

constexpr size_t kHttpRequestMax = 128;

/// Writes "GET / ...", or "GET /sleep/US ..." or "/spin/US" when the worker shall be busy for so long, in whole microseconds. The last
/// one on a connection asks for its end. Gives how many bytes of `to` it took.
size_t write_http_request(std::span<char, kHttpRequestMax> to, Work work, uint64_t service_ns, bool last);

/// Reads one HTTP/1.1 answer as it comes in. Allocates nothing and keeps only what it needs: for each of many clients there is one.
class HttpAnswer {
 public:
  enum class State {
    incomplete,
    complete,  ///< status 200, head and all of the body
    broken,    ///< another status, no Content-Length, or not HTTP
  };

  /// Takes what came in. Bytes behind a whole answer are its end's neighbours that nobody asked for: broken.
  State take(std::string_view bytes);
  /// Begins with the next one.
  void reset() { *this = HttpAnswer(); }

  uint64_t bytes() const { return bytes_; }    ///< head and body so far
  uint32_t worker() const { return worker_; }  ///< X-Worker; 0 without it

 private:
  enum class Part { status, headers, body, broken };

  void end_line();
  void status_line(std::string_view line);
  void header_line(std::string_view line);

  static constexpr size_t kLineMax = 64;  // what counts of a line; of longer ones the rest is skipped

  std::array<char, kLineMax> line_{};
  uint8_t line_size_ = 0;
  Part part_ = Part::status;
  bool has_length_ = false;
  uint32_t worker_ = 0;
  uint64_t bytes_ = 0;
  uint64_t body_left_ = 0;
};

}  // namespace lbbench
