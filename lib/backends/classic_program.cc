// SPDX-License-Identifier: MIT
#include "backends/classic_program.hh"

#include <linux/filter.h>
#include <sys/socket.h>

#include <vector>

#include "sys/error.hh"

namespace lb {

Result<void> attach_classic_program(int listening_fd, std::span<const uint32_t> places) noexcept try {
  std::vector<sock_filter> code;
  code.reserve(places.size() * 2 + 3);
  if (places.size() > 1) {
    code.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, static_cast<uint32_t>(SKF_AD_OFF + SKF_AD_RANDOM)));
    code.push_back(BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, static_cast<uint32_t>(places.size())));
    for (uint32_t i = 0; i + 1 < places.size(); ++i) {
      code.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, i, 0, 1));
      code.push_back(BPF_STMT(BPF_RET | BPF_K, places[i]));
    }
  }
  code.push_back(BPF_STMT(BPF_RET | BPF_K, places.empty() ? 0 : places.back()));
  if (code.size() > BPF_MAXINSNS) return Error{E2BIG, "SO_ATTACH_REUSEPORT_CBPF"};
  const sock_fprog program{static_cast<unsigned short>(code.size()), code.data()};
  if (::setsockopt(listening_fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program) != 0)
    return last_error("SO_ATTACH_REUSEPORT_CBPF");
  return {};
} catch (...) {
  return Error{ENOMEM, "SO_ATTACH_REUSEPORT_CBPF"};
}

void detach_program(int listening_fd) noexcept {
  const int unused = 0;
  (void)::setsockopt(listening_fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &unused, sizeof unused);
}

}  // namespace lb
