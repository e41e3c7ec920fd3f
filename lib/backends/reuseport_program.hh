// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <lb/result.hh>
#include <lb/status.hh>
#include <lb/unique_fd.hh>

#include "lb_reuseport.h"

namespace lb {

/// Makes the memory of the worker pages as a BPF array that both mmap(2) and the program can read (BPF_F_MMAPABLE, 5.5).
/// EPERM without CAP_BPF, ENOSYS when built without BPF or the kernel has none: the caller then takes a memfd.
Result<UniqueFd> create_worker_pages_map() noexcept;

/// The eBPF program that picks a slot for each connection, or for each flow of datagrams, of one reuseport group. Primary only.
/// The only file that knows libbpf.
class ReuseportProgram {
 public:
  enum class Rung {
    kernel_backlog,  ///< young and backlog read from the kernel's sockets: CAP_BPF + CAP_PERFMON + BTF
    in_flight,       ///< the workers' pages and the picks' own count: CAP_BPF
  };

  /// Loads the best rung the kernel permits, at most `best`. `workers_map` is borrowed: the map of create_worker_pages_map.
  /// `flows_max`: 0 for connections; else for datagrams, with a table that remembers so many flows (about 100 bytes each).
  static Result<std::unique_ptr<ReuseportProgram>> load(int workers_map, Rung best, uint32_t flows_max = 0) noexcept;

  virtual ~ReuseportProgram() = default;

  virtual Rung rung() const noexcept = 0;
  /// Why it is not the top rung; empty if it is.
  virtual const std::string& reason() const noexcept = 0;

  /// SO_ATTACH_REUSEPORT_EBPF. The socket must be listening already, else it gets a group of its own.
  virtual Result<void> attach(int listening_fd) noexcept = 0;
  /// Puts a listening socket into the group's sockarray.
  virtual Result<void> insert(uint32_t slot, int listening_fd) noexcept = 0;
  /// Takes a slot's socket out again: a socket is in one sockarray at a time.
  virtual void remove(uint32_t slot) noexcept = 0;

  /// What the program obeys, in memory shared with it.
  virtual lb_group& group() noexcept = 0;
  /// LB_MAX_SLOTS entries, in memory that the program writes.
  virtual const lb_slot_picks* picks() const noexcept = 0;
  /// The program passes over the slot: its worker took nothing of what it was given.
  virtual bool hung(uint32_t slot) const noexcept = 0;
  /// It does not any more, and judges the slot anew: its worker has shown itself, or is gone.
  virtual void pardon(uint32_t slot) noexcept = 0;
  /// The picks' map, for workers to mmap read-only.
  virtual int picks_fd() const noexcept = 0;
  /// Times that the program left by each lb_exit, summed over the CPUs.
  virtual std::array<uint64_t, LB_EXIT_COUNT> exits() const noexcept = 0;
};

/// The same with their names, for the status.
std::vector<PickOutcome> outcomes_of(const ReuseportProgram& program);

}  // namespace lb
