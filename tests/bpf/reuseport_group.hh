// SPDX-License-Identifier: MIT
#pragma once

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <lb/unique_fd.hh>

#include "backends/reuseport_program.hh"

namespace lb::test {

/// A reuseport group on 127.0.0.1, its program, and the workers' pages, written here in the workers' stead.
class ReuseportGroup {
 public:
  /// Empty on success, else why not. Every slot is ready.
  std::string open(uint32_t slots, ReuseportProgram::Rung rung, int socket_type = SOCK_STREAM, uint32_t flows_max = 65536) {
    auto map = create_worker_pages_map();
    if (!map) return failure(map.error());
    workers_map_ = *std::move(map);
    void* pages = ::mmap(nullptr, kPagesSize, PROT_READ | PROT_WRITE, MAP_SHARED, workers_map_.get(), 0);
    if (pages == MAP_FAILED) return "mmap of the workers' pages";
    pages_.reset(static_cast<lb_worker_page*>(pages));
    auto program = ReuseportProgram::load(workers_map_.get(), rung, socket_type == SOCK_DGRAM ? flows_max : 0);
    if (!program) return failure(program.error());
    program_ = *std::move(program);
    if (program_->rung() != rung) return program_->reason();
    program_->group().slot_count = slots;
    for (uint32_t slot = 0; slot < slots; slot++)
      if (auto why = add_socket(slot, socket_type); !why.empty()) return why;
    for (uint32_t slot = 0; slot < slots; slot++) set_ready(slot, true);
    return "";
  }

  /// The order that works: the first socket is bound alone, joins its group as it listens, and gets the program then. Without
  /// a listen the bind is what makes the group.
  std::string add_socket(uint32_t slot, int type) {
    const int on = 1;
    UniqueFd fd(::socket(AF_INET, type | SOCK_CLOEXEC, 0));
    if (slot > 0 || type == SOCK_DGRAM) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address_), sizeof(address_)) != 0) return "bind";
    if (slot == 0) ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    if (type == SOCK_STREAM && ::listen(fd.get(), 4096) != 0) return "listen";
    if (slot == 0) {
      socklen_t size = sizeof(address_);
      ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address_), &size);
      if (auto attached = program_->attach(fd.get()); !attached) return failure(attached.error());
    }
    if (auto inserted = program_->insert(slot, fd.get()); !inserted) return failure(inserted.error());
    sockets_.push_back(std::move(fd));
    return "";
  }

  ReuseportProgram& program() { return *program_; }
  lb_worker_page& page(uint32_t slot) { return pages_.get()[slot]; }
  lb_group& settings() { return program_->group(); }
  uint64_t picks(uint32_t slot) const { return program_->picks()[slot].picks; }
  uint64_t exits(lb_exit exit) const { return program_->exits()[exit]; }
  int listener(uint32_t slot) const { return sockets_[slot].get(); }
  const sockaddr_in& address() const { return address_; }

  void set_ready(uint32_t slot, bool ready) {
    const __u64 bit = __u64{1} << (slot % 64);
    __u64& word = settings().ready[slot / 64];
    word = ready ? word | bit : word & ~bit;
  }

  /// What a worker does that took all its slot was given.
  void settle(uint32_t slot) { page(slot).cells[0].settled = static_cast<uint32_t>(picks(slot)); }

  /// A connection that the kernel has queued by the time this returns; nobody accepts it. -1 and errno if it fails. `from`: the client's
  /// address, in host order.
  int connect(uint32_t from = INADDR_ANY) {
    UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in source{AF_INET, 0, {htonl(from)}, {}};
    if (from != INADDR_ANY && ::bind(client.get(), reinterpret_cast<const sockaddr*>(&source), sizeof(source)) != 0) return -1;
    if (::connect(client.get(), reinterpret_cast<const sockaddr*>(&address_), sizeof(address_)) != 0) return -1;
    clients_.push_back(std::move(client));
    return clients_.back().get();
  }
  /// The slot that a client with this address is given.
  uint32_t slot_given_to(uint32_t from) {
    const auto before = all_picks();
    if (connect(from) < 0) return LB_MAX_SLOTS;
    const auto after = all_picks();
    return static_cast<uint32_t>(std::mismatch(before.begin(), before.end(), after.begin()).first - before.begin());
  }
  bool connect_many(int n) {
    for (int i = 0; i < n; i++)
      if (connect() < 0) return false;
    return true;
  }
  void hang_up() { clients_.clear(); }

  std::vector<uint64_t> all_picks() const {
    std::vector<uint64_t> result;
    for (uint32_t slot = 0; slot < sockets_.size(); slot++) result.push_back(picks(slot));
    return result;
  }

  /// Connections in the slot's accept queue.
  uint32_t backlog(uint32_t slot) const {
    tcp_info state{};
    socklen_t size = sizeof(state);
    ::getsockopt(listener(slot), IPPROTO_TCP, TCP_INFO, &state, &size);
    return state.tcpi_unacked;
  }

  /// The next connection of the slot's queue; waits for it for up to 5 s.
  UniqueFd accept(uint32_t slot) const {
    pollfd event{listener(slot), POLLIN, 0};
    if (::poll(&event, 1, 5000) != 1) return UniqueFd();
    return UniqueFd(::accept4(listener(slot), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  }

 private:
  static constexpr size_t kPagesSize = sizeof(lb_worker_page) * LB_MAX_SLOTS;
  struct Unmap {
    void operator()(lb_worker_page* pages) const { ::munmap(pages, kPagesSize); }
  };

  static std::string failure(const Error& error) { return std::string(error.op) + ": " + std::strerror(error.code); }

  UniqueFd workers_map_;
  std::unique_ptr<lb_worker_page, Unmap> pages_;
  std::unique_ptr<ReuseportProgram> program_;
  sockaddr_in address_{AF_INET, 0, {htonl(INADDR_LOOPBACK)}, {}};
  std::vector<UniqueFd> sockets_;
  std::vector<UniqueFd> clients_;
};

/// True where the machine must be able to run these tests (CI).
inline bool privileged_required() {
  const char* value = std::getenv("LB_REQUIRE_PRIVILEGED");
  return value && std::strcmp(value, "1") == 0;
}

}  // namespace lb::test
