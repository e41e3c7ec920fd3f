// SPDX-License-Identifier: MIT
#include "wire/scoreboard.hh"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "sys/error.hh"
#include "wire/handoff.hh"

namespace lb {

Result<UniqueFd> make_memory(const char* name, size_t size) noexcept {
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return last_error("memfd_create");
  if (::ftruncate(fd.get(), static_cast<off_t>(size)) != 0) return last_error("ftruncate");
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) return last_error("F_ADD_SEALS");
  return fd;
}

Mapping::Mapping(Mapping&& other) noexcept
    : start_(std::exchange(other.start_, nullptr)), size_(other.size_), owner_(other.owner_) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
  std::swap(start_, other.start_);
  std::swap(size_, other.size_);
  std::swap(owner_, other.owner_);
  return *this;
}

/// In a child that did not get it, something else may be there by now.
Mapping::~Mapping() {
  if (start_ != nullptr && (owner_ == 0 || owner_ == ::getpid())) ::munmap(start_, size_);
}

void Mapping::keep_from_children() noexcept {
  if (::madvise(start_, size_, MADV_DONTFORK) == 0) owner_ = ::getpid();
}

/// A mapping beyond a file's end, or of a socket (tcp_mmap), would be a SIGBUS at the first look. BPF maps are of no file type, and the
/// kernel checks their size.
Result<void> Mapping::check(int fd, size_t end) noexcept {
  struct stat file {};
  if (::fstat(fd, &file) != 0) return last_error("fstat");
  const mode_t type = file.st_mode & S_IFMT;
  if (type != 0 && (type != S_IFREG || static_cast<size_t>(file.st_size) < end))
    return Error{EPROTO, "mmap: not what was agreed on"};
  return {};
}

Result<Mapping> Mapping::map(int fd, size_t size, size_t offset, bool writable) noexcept {
  if (auto sound = check(fd, offset + size); !sound) return sound.error();
  Mapping mapping;
  void* start = ::mmap(nullptr, size, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, static_cast<off_t>(offset));
  if (start == MAP_FAILED) return last_error("mmap");
  mapping.start_ = start;
  mapping.size_ = size;
  return mapping;
}

Result<Scoreboard> Scoreboard::create(UniqueFd worker_pages, uint32_t slots) noexcept {
  Scoreboard board;
  board.slots_ = slots;
  board.in_bpf_ = static_cast<bool>(worker_pages);
  board.weights_.assign(slots, 1);
  board.shares_.assign(slots, 0);
  if (!worker_pages) {
    auto memory = make_memory("lb-workers", slots * sizeof(lb_worker_page));
    if (!memory) return memory.error();
    worker_pages = std::move(*memory);
  }
  auto primary_memory = make_memory("lb-primary", sizeof(lb_primary_page));
  if (!primary_memory) return primary_memory.error();
  auto pages = Mapping::map(worker_pages.get(), slots * sizeof(lb_worker_page), 0, true);
  if (!pages) return pages.error();
  auto primary = Mapping::map(primary_memory->get(), sizeof(lb_primary_page), 0, true);
  if (!primary) return primary.error();
  pages->keep_from_children();  // a forked worker joins, as any other does
  primary->keep_from_children();
  board.pages_ = std::move(*pages);
  board.primary_ = std::move(*primary);
  board.pages_fd_ = std::move(worker_pages);
  board.primary_fd_ = std::move(*primary_memory);
  board.primary().layout_version = LB_LAYOUT_VERSION;
  board.primary().slot_max = LB_MAX_SLOTS;
  board.primary().page_size = sizeof(lb_worker_page);
  atomic(board.primary().awake).store(1);
  return board;
}

Result<Scoreboard> Scoreboard::join(int worker_pages, int primary_page, uint32_t slots, uint32_t own_slot) noexcept {
  if (slots > LB_MAX_SLOTS || own_slot >= slots) return Error{EPROTO, "scoreboard: slot"};
  Scoreboard board;
  board.slots_ = slots;
  board.own_slot_ = own_slot;
  auto primary = Mapping::map(primary_page, sizeof(lb_primary_page), 0, false);
  if (!primary) return primary.error();
  board.primary_ = std::move(*primary);
  const auto& theirs = board.primary();
  if (theirs.layout_version != LB_LAYOUT_VERSION || theirs.slot_max != LB_MAX_SLOTS || theirs.page_size != sizeof(lb_worker_page))
    return Error{EPROTO, "scoreboard: the primary runs another version of liblb"};
  auto own = Mapping::map(worker_pages, sizeof(lb_worker_page), own_slot * sizeof(lb_worker_page), true);
  if (!own) return own.error();
  board.own_ = std::move(*own);
  return board;
}

Result<void> Scoreboard::look_at_others(int worker_pages) noexcept {
  if (sees_others()) return {};
  auto pages = Mapping::map(worker_pages, slots_ * sizeof(lb_worker_page), 0, false);
  if (!pages) return pages.error();
  pages_ = std::move(*pages);
  return {};
}

void Scoreboard::vacate(uint32_t slot) noexcept {
  set_leaving(slot, false);
  lb_worker_page& old = page(slot);
  atomic(old.cpu).store(0);
  atomic(old.in_flight).store(0);
  atomic(old.reported).store(0);
  atomic(old.heartbeat).store(0);
  for (__u64* field : {&old.hermes.entered_ns, &old.hermes.decided_ns}) atomic(*field).store(0);
  atomic(old.hermes.events).store(0);
  for (__u32& word : old.claims) Claim::clear(word);
  for (auto& cell : old.cells) {
    atomic(cell.accepted).store(0);
    atomic(cell.waiting).store(0);
  }
}

}  // namespace lb
