// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <lb/unique_fd.hh>
#include <span>
#include <vector>

#include "http_talk.hh"
#include "protocol.hh"
#include "record.hh"

namespace lbbench {

/// One generator's part of a run.
struct GeneratorPlan {
  uint16_t port;
  uint64_t origin_ns;              ///< CLOCK_MONOTONIC; the run's time 0
  uint64_t end_ns;                 ///< from the origin: no connection begins later
  std::span<const Arrival> trace;  ///< open loop; one record for each
  unsigned clients;                ///< closed loop: connections kept open; 0 for an open loop
  unsigned requests;               ///< per connection
  bool each_request;               ///< closed loop: a record for each request, not for the connection
  std::span<Record> records;
  const std::atomic<bool>* stop;  ///< set by the main process: leave now
  bool http;                      ///< speak HTTP; else protocol.hh's requests
  Work work;                      ///< http: how a worker is to be busy
  uint64_t service_less_ns;       ///< http: asked so much less than the trace has, as a sleep ends so much too late
};

/// Opens connections, at the moments of the trace (open) or one after another (closed), sends their requests, and
/// records what becomes of them. One thread, one epoll instance, no allocation after the start. For a process of its
/// own.
class Generator {
 public:
  explicit Generator(const GeneratorPlan& plan);
  /// Until every connection has ended. Gives the process's exit code.
  int run();

 private:
  struct Client {
    int fd = -1;
    size_t record = 0;
    uint64_t begun_ns = 0;
    uint64_t service_ns = 0;  ///< of each request
    int64_t error_ns = 0;     ///< sum over the requests
    unsigned requests_left = 0;
    size_t have = 0;        ///< bytes of the answer
    bool due = false;       ///< it may ask
    bool sent = false;      ///< the current request
    bool answered = false;  ///< the last one; waits for the server's FIN
    Answer answer{};
    HttpAnswer http_answer{};
  };

  uint64_t elapsed_ns() const;
  void begin_due(uint64_t now_ns);
  void begin(const Arrival& arrival, uint64_t now_ns);
  void ask_due(uint64_t now_ns);
  bool open_socket(Client& client) const;
  void wait(uint64_t now_ns);
  void advance(Client& client);
  bool send_request(Client& client);
  bool read_answer(Client& client);
  bool whole(Client& client, std::span<const char> bytes);
  void next_request(Client& client);
  void lose(Client& client, Outcome why);
  void release(Client& client);
  void look_after_clients(uint64_t now_ns);
  bool may_begin(uint64_t now_ns) const;

  const GeneratorPlan plan_;
  Recorder recorder_;
  lb::UniqueFd epoll_;
  std::vector<Client> clients_;
  std::vector<size_t> free_;
  std::vector<std::pair<uint64_t, size_t>> held_;  ///< heap: when a connection is to ask, and its record
  std::vector<size_t> client_of_;                  ///< held: by record
  size_t next_ = 0;                                ///< record, and arrival, to begin next
  size_t open_ = 0;                                ///< connections begun and not ended
  unsigned resting_ = 0;  ///< closed loop: clients that lost a connection and wait a little before the next
  uint64_t next_look_ns_ = 0;
  std::array<char, 4096> bytes_;  ///< what came in last
};

}  // namespace lbbench
