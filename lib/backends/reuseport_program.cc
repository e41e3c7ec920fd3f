// SPDX-License-Identifier: MIT
#include "backends/reuseport_program.hh"

#include <fcntl.h>
#include <linux/capability.h>
#include <malloc.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>

#include "wire/scoreboard.hh"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wpragmas"
#include "lb_reuseport.skel.h"
#pragma GCC diagnostic pop

namespace lb {
namespace {

// The program sees the pages and the group as arrays of 8-byte words; the memory is the same.
constexpr uint32_t kWorkerWords = LB_MAX_SLOTS * (sizeof(lb_worker_page) / sizeof(uint64_t));
constexpr uint32_t kGroupWords = sizeof(lb_group) / sizeof(uint64_t);
constexpr uint32_t kHungWords = sizeof(lb_hung) / sizeof(uint64_t);

constexpr const char* kVmlinuxBtf = "/sys/kernel/btf/vmlinux";

struct SkeletonDeleter {
  void operator()(lb_reuseport* skeleton) const noexcept { lb_reuseport__destroy(skeleton); }
};
using Skeleton = std::unique_ptr<lb_reuseport, SkeletonDeleter>;

/// While it lives libbpf is silent, and this thread's first warning is kept. libbpf has one print function for the whole
/// process, so one load at a time.
class QuietLibbpf {
 public:
  QuietLibbpf() noexcept : lock_(mutex) {
    current = this;
    previous_ = libbpf_set_print(print);
  }
  QuietLibbpf(const QuietLibbpf&) = delete;
  QuietLibbpf& operator=(const QuietLibbpf&) = delete;
  ~QuietLibbpf() {
    libbpf_set_print(previous_);
    current = nullptr;
  }

  const char* warning() const noexcept { return warning_; }

 private:
  static int print(libbpf_print_level level, const char* format, va_list arguments) noexcept {
    if (!current || level != LIBBPF_WARN || current->warning_[0]) return 0;
    std::vsnprintf(current->warning_, sizeof(current->warning_), format, arguments);
    current->warning_[std::strcspn(current->warning_, "\n")] = '\0';
    return 0;
  }

  static inline std::mutex mutex;
  static inline thread_local QuietLibbpf* current = nullptr;

  std::lock_guard<std::mutex> lock_;
  libbpf_print_fn_t previous_ = nullptr;
  char warning_[160] = "";
};

bool has_capability(unsigned number) noexcept {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]{};
  if (::syscall(SYS_capget, &header, data) != 0) return false;
  return (data[CAP_TO_INDEX(number)].effective & CAP_TO_MASK(number)) != 0;
}

/// CAP_SYS_ADMIN stands for the capabilities that were split from it in Linux 5.8.
bool may(unsigned number) noexcept { return has_capability(number) || has_capability(CAP_SYS_ADMIN); }

/// What stood in the way of the top rung, as far as it can be told: the verifier answers EINVAL to a helper that the caller
/// may not use.
std::string explain_top_rung(int code, const char* warning) {
  std::string text = std::string("kernel's backlog not read: ") + std::strerror(code);
  if (!may(CAP_PERFMON)) return text + " (needs CAP_PERFMON)";
  if (::access(kVmlinuxBtf, R_OK) != 0) return text + " (needs " + kVmlinuxBtf + ")";
  return *warning ? text + " (" + warning + ")" : text;
}

/// The object and the header that it was built from are one build; the workers' map comes from the caller.
Result<void> check_workers_map(int fd) noexcept {
  bpf_map_info map{};
  uint32_t size = sizeof(map);
  if (bpf_obj_get_info_by_fd(fd, &map, &size) != 0) return Error{errno, "workers' eBPF map"};
  if (map.type != BPF_MAP_TYPE_ARRAY || map.value_size != sizeof(uint64_t) || map.max_entries != kWorkerWords ||
      (map.map_flags & BPF_F_MMAPABLE) == 0)
    return Error{EPROTO, "workers' eBPF map (of another layout)"};
  return {};
}

bool maps_match(const lb_reuseport& skeleton) noexcept {
  return bpf_map__value_size(skeleton.maps.group) == sizeof(uint64_t) && bpf_map__max_entries(skeleton.maps.group) == kGroupWords &&
         bpf_map__max_entries(skeleton.maps.hung) == kHungWords &&
         bpf_map__value_size(skeleton.maps.picks) == sizeof(lb_slot_picks) &&
         bpf_map__max_entries(skeleton.maps.picks) == LB_MAX_SLOTS && bpf_map__max_entries(skeleton.maps.sockets) == LB_MAX_SLOTS &&
         bpf_map__value_size(skeleton.maps.flows) == sizeof(uint64_t) && bpf_map__max_entries(skeleton.maps.exits) == LB_EXIT_COUNT;
}

/// The object's programs, of which one is loaded.
enum class Variant { kernel_cast, kernel_probe, scoreboard, flow_kernel, flow };
constexpr Variant kVariants[] = {Variant::kernel_cast, Variant::kernel_probe, Variant::scoreboard, Variant::flow_kernel,
                                 Variant::flow};

bpf_program* program_of(const lb_reuseport& skeleton, Variant variant) noexcept {
  switch (variant) {
    case Variant::kernel_cast:
      return skeleton.progs.select_kernel_cast;
    case Variant::kernel_probe:
      return skeleton.progs.select_kernel;
    case Variant::flow_kernel:
      return skeleton.progs.select_flow_kernel;
    case Variant::flow:
      return skeleton.progs.select_flow;
    case Variant::scoreboard:
      break;
  }
  return skeleton.progs.select_scoreboard;
}

/// libbpf's functions return -errno.
Result<Skeleton> load_variant(int workers_map, Variant variant, uint32_t flows_max) noexcept {
  Skeleton skeleton(lb_reuseport__open());
  if (!skeleton) return Error{errno, "open eBPF object"};
  if (!maps_match(*skeleton)) return Error{EPROTO, "open eBPF object (of another layout)"};
  for (const Variant other : kVariants) bpf_program__set_autoload(program_of(*skeleton, other), other == variant);
  // The table's memory is taken at once: megabytes that the programs for connections have no use for.
  if (const int e = flows_max != 0 ? bpf_map__set_max_entries(skeleton->maps.flows, flows_max)
                                   : bpf_map__set_autocreate(skeleton->maps.flows, false))
    return Error{-e, "size of the eBPF flow table"};
  if (const int e = bpf_map__reuse_fd(skeleton->maps.workers, workers_map)) return Error{-e, "reuse workers' eBPF map"};
  if (const int e = lb_reuseport__load(skeleton.get()))
    return Error{-e, may(CAP_BPF) ? "load eBPF selection" : "load eBPF selection (needs CAP_BPF)"};
  return skeleton;
}

UniqueFd duplicate(int fd) noexcept { return UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 3)); }

/// Destruction closes and unmaps, nothing else: the kernel frees program and maps when the last process has done so.
class LoadedProgram final : public ReuseportProgram {
 public:
  /// The skeleton, with its copy of the object file, is not kept.
  static Result<std::unique_ptr<ReuseportProgram>> create(const lb_reuseport& skeleton, Variant variant,
                                                          std::string reason) noexcept {
    const bool low = variant == Variant::scoreboard || variant == Variant::flow;
    const Rung rung = low ? Rung::in_flight : Rung::kernel_backlog;
    UniqueFd program = duplicate(bpf_program__fd(program_of(skeleton, variant)));
    UniqueFd sockets = duplicate(bpf_map__fd(skeleton.maps.sockets));
    UniqueFd exits = duplicate(bpf_map__fd(skeleton.maps.exits));
    UniqueFd picks = duplicate(bpf_map__fd(skeleton.maps.picks));
    if (!program || !sockets || !exits || !picks) return Error{errno, "duplicate eBPF descriptor"};
    auto group = Mapping::map(bpf_map__fd(skeleton.maps.group), sizeof(lb_group), 0, true);
    if (!group) return group.error();
    auto counts = Mapping::map(picks.get(), sizeof(lb_slot_picks) * LB_MAX_SLOTS, 0, true);
    if (!counts) return counts.error();
    auto hung = Mapping::map(bpf_map__fd(skeleton.maps.hung), sizeof(lb_hung), 0, true);
    if (!hung) return hung.error();
    for (Mapping* mapping : {&*group, &*counts, &*hung}) mapping->keep_from_children();
    return std::unique_ptr<ReuseportProgram>(new LoadedProgram(rung, std::move(reason), std::move(program), std::move(sockets),
                                                               std::move(exits), std::move(picks), *std::move(group),
                                                               *std::move(counts), *std::move(hung)));
  }

  Rung rung() const noexcept override { return rung_; }
  const std::string& reason() const noexcept override { return reason_; }

  Result<void> attach(int listening_fd) noexcept override {
    int type = 0, listens = 0;
    socklen_t size = sizeof(int);
    if (::getsockopt(listening_fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 ||
        ::getsockopt(listening_fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0)
      return Error{errno, "attach eBPF selection"};
    if (type == SOCK_STREAM && !listens) return Error{EINVAL, "attach eBPF selection (to a socket that does not listen)"};
    const int fd = program_.get();
    if (::setsockopt(listening_fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_EBPF, &fd, sizeof(fd)) != 0)
      return Error{errno, "attach eBPF selection"};
    return {};
  }

  Result<void> insert(uint32_t slot, int listening_fd) noexcept override {
    const uint64_t value = static_cast<uint64_t>(listening_fd);
    if (const int e = bpf_map_update_elem(sockets_.get(), &slot, &value, BPF_ANY))
      return Error{-e, "insert socket into the eBPF group"};
    return {};
  }

  void remove(uint32_t slot) noexcept override { (void)bpf_map_delete_elem(sockets_.get(), &slot); }

  lb_group& group() noexcept override { return *static_cast<lb_group*>(group_.get()); }
  const lb_slot_picks* picks() const noexcept override { return counts(); }
  bool hung(uint32_t slot) const noexcept override {
    return (hung_word(slot).load(std::memory_order_relaxed) >> (slot % 64) & 1) != 0;
  }
  void pardon(uint32_t slot) noexcept override {
    atomic(counts()[slot].beat).store(0);  // of no worker: the next heartbeat is news, whatever it is
    hung_word(slot).fetch_and(~(uint64_t{1} << (slot % 64)));
  }
  int picks_fd() const noexcept override { return picks_.get(); }

  std::array<uint64_t, LB_EXIT_COUNT> exits() const noexcept override {
    std::array<uint64_t, LB_EXIT_COUNT> sums{};
    const int cpus = libbpf_num_possible_cpus();
    if (cpus <= 0) return sums;
    const std::unique_ptr<uint64_t[]> counts(new (std::nothrow) uint64_t[static_cast<size_t>(cpus)]);
    if (!counts) return sums;
    for (uint32_t exit = 0; exit < LB_EXIT_COUNT; exit++) {
      if (bpf_map_lookup_elem(exits_.get(), &exit, counts.get()) != 0) continue;
      for (int cpu = 0; cpu < cpus; cpu++) sums[exit] += counts[static_cast<size_t>(cpu)];
    }
    return sums;
  }

 private:
  LoadedProgram(Rung rung, std::string reason, UniqueFd program, UniqueFd sockets, UniqueFd exits, UniqueFd picks, Mapping group,
                Mapping counts, Mapping hung) noexcept
      : rung_(rung), reason_(std::move(reason)), program_(std::move(program)), sockets_(std::move(sockets)),
        exits_(std::move(exits)), picks_(std::move(picks)), group_(std::move(group)), counts_(std::move(counts)),
        hung_(std::move(hung)) {}

  lb_slot_picks* counts() const noexcept { return static_cast<lb_slot_picks*>(counts_.get()); }
  std::atomic<uint64_t>& hung_word(uint32_t slot) const noexcept {
    return reinterpret_cast<std::atomic<uint64_t>&>(static_cast<lb_hung*>(hung_.get())->slots[slot / 64]);
  }

  Rung rung_;
  std::string reason_;
  UniqueFd program_;
  UniqueFd sockets_;
  UniqueFd exits_;
  UniqueFd picks_;
  Mapping group_;
  Mapping counts_;
  Mapping hung_;
};

}  // namespace

Result<UniqueFd> create_worker_pages_map() noexcept {
  QuietLibbpf quiet;
  LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = BPF_F_MMAPABLE);
  const int fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "lb_workers", sizeof(uint32_t), sizeof(uint64_t), kWorkerWords, &options);
  if (fd < 0) return Error{-fd, may(CAP_BPF) ? "create workers' eBPF map" : "create workers' eBPF map (needs CAP_BPF)"};
  return UniqueFd(fd);
}

namespace {

Result<std::unique_ptr<ReuseportProgram>> load_best(int workers_map, ReuseportProgram::Rung best, uint32_t flows_max) noexcept {
  const bool flows = flows_max != 0;
  if (auto checked = check_workers_map(workers_map); !checked) return checked.error();
  QuietLibbpf quiet;
  std::string reason = "top rung not asked for";
  if (best == ReuseportProgram::Rung::kernel_backlog) {
    for (const Variant variant : {Variant::kernel_cast, Variant::kernel_probe, Variant::flow_kernel}) {
      if (flows != (variant == Variant::flow_kernel)) continue;  // of the two others the first is cheaper, but needs 6.2
      auto skeleton = load_variant(workers_map, variant, flows_max);
      if (skeleton) return LoadedProgram::create(**skeleton, variant, "");
      reason = explain_top_rung(skeleton.error().code, quiet.warning());
    }
  }
  const Variant low = flows ? Variant::flow : Variant::scoreboard;
  auto skeleton = load_variant(workers_map, low, flows_max);
  if (!skeleton) return skeleton.error();
  return LoadedProgram::create(**skeleton, low, std::move(reason));
}

/// libbpf has read all of the kernel's types (BTF), megabytes, and freed them. As long as they are the process's, every fork(2) copies
/// their page table.
void give_back_memory() noexcept {
#ifdef __GLIBC__
  ::malloc_trim(0);
#endif
}

}  // namespace

Result<std::unique_ptr<ReuseportProgram>> ReuseportProgram::load(int workers_map, Rung best, uint32_t flows_max) noexcept {
  auto program = load_best(workers_map, best, flows_max);
  give_back_memory();
  return program;
}

}  // namespace lb
