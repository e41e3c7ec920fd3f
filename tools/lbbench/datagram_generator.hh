// SPDX-License-Identifier: MIT
#pragma once

#include <lb/unique_fd.hh>
#include <vector>

#include "generator.hh"

namespace lbbench {

/// Sends the datagrams of an open loop's trace at their moments and records what becomes of them. They belong to flows (sockets of
/// their own port), in turn; a flow ends after kFlowLength of them and a new one begins. For a process of its own.
class DatagramGenerator {
 public:
  static constexpr unsigned kFlowLength = 32;

  DatagramGenerator(const GeneratorPlan& plan, unsigned flows);
  /// Until every datagram is answered or given up. Gives the process's exit code.
  int run();

 private:
  struct Flow {
    lb::UniqueFd fd;
    unsigned sent = 0;
    unsigned waiting = 0;  ///< for an answer
  };

  uint64_t elapsed_ns() const;
  void send_due(uint64_t now_ns);
  void send(size_t index, Flow& flow, uint64_t now_ns);
  bool open(Flow& flow);
  void wait(uint64_t now_ns);
  void receive(Flow& flow);
  void give_up(uint64_t now_ns);

  const GeneratorPlan plan_;
  Recorder recorder_;
  lb::UniqueFd epoll_;
  std::vector<Flow> flows_;
  size_t next_ = 0;    ///< datagram to send next
  size_t oldest_ = 0;  ///< the first that is still without an answer
};

}  // namespace lbbench
