// SPDX-License-Identifier: MIT
#include "packets.hh"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <cstdlib>
#include <iterator>

namespace lb::fuzz {
namespace {

constexpr const char* kTexts[] = {"tcp://127.0.0.1:0", "tcp://[::1]:0", "udp://127.0.0.1:0", "unix:@liblb-fuzz", "fd:3", "tcp://"};

UniqueFd make_listening() {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd || ::listen(fd.get(), 8) != 0) std::abort();
  return fd;
}

/// A primary makes a file where a worker asks for one: not on the machine that fuzzes.
bool names_a_path(std::string_view bytes) { return bytes.find("unix:/") != std::string_view::npos; }

void set_text(Input& input, Message& message) noexcept {
  const unsigned which = input.below(std::size(kTexts) + 2);
  if (which < std::size(kTexts)) return message.set_text(kTexts[which]);
  if (which == std::size(kTexts)) return;
  message.set_text(input.text(input.take<uint8_t>()));
}

}  // namespace

Descriptors::Descriptors()
    : listening_(make_listening()), null_(::open("/dev/null", O_RDWR | O_CLOEXEC)),
      memory_(::memfd_create("lb-fuzz", MFD_CLOEXEC)) {
  if (!null_ || !memory_ || ::ftruncate(memory_.get(), 1 << 20) != 0) std::abort();
  renew_handoffs();
}

void Descriptors::renew_handoffs() {
  auto ends = make_channel();
  if (!ends) std::abort();
  handoffs_ = std::move(ends->first);
  handoffs_far_ = std::move(ends->second);
}

std::span<const int> Descriptors::choose(Input& input) noexcept {
  const unsigned count = input.below(5);
  const int kinds[] = {listening_.get(), handoffs_far_.get(), memory_.get(), null_.get()};
  for (unsigned i = 0; i < count; ++i) chosen_[i] = kinds[input.below(std::size(kinds))];
  return {chosen_.data(), count};
}

void send_any_packet(Input& input, int channel, Descriptors& descriptors, std::span<const Act> likely,
                     unsigned fds_one_in) noexcept {
  if (input.below(16) == 0) {
    const auto bytes = input.text(input.take<uint16_t>() % 600);
    if (!names_a_path(bytes)) (void)send_packet(channel, bytes.data(), bytes.size(), descriptors.choose(input));
    return;
  }
  Message message;
  const unsigned act = input.below(static_cast<unsigned>(likely.size()) + 1);
  message.act = act < likely.size() ? likely[act] : static_cast<Act>(input.take<uint16_t>());
  if (input.below(32) == 0) message.version = input.take<uint16_t>();
  message.sequence = input.below(8);
  message.acknowledged = input.below(8);
  message.error = input.below(4) == 0 ? input.take<uint8_t>() : 0;
  message.endpoint = input.below(8) == 0 ? input.take<uint32_t>() : input.below(4);
  for (auto& value : message.value) value = input.below(4) == 0 ? input.take<uint32_t>() : input.below(4);
  set_text(input, message);
  if (input.below(32) == 0) message.text_length = input.take<uint16_t>();
  const auto payload = input.below(8) == 0 ? input.text(input.take<uint8_t>()) : std::string_view();
  message.payload_length = input.below(32) == 0 ? input.take<uint16_t>() : static_cast<uint16_t>(payload.size());
  if (names_a_path({message.text, sizeof message.text})) return;
  const auto fds = input.below(fds_one_in) == 0 ? descriptors.choose(input) : std::span<const int>();
  (void)send_packet(channel, &message, sizeof message, fds, std::as_bytes(std::span(payload)));
}

}  // namespace lb::fuzz
