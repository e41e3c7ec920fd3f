// SPDX-License-Identifier: MIT
// The admin socket: a client that says anything at all, in pieces, and leaves when it likes. What is answered is one line of JSON.
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <string>

#include "input.hh"
#include "primary/cluster_impl.hh"

namespace lb {
namespace {

constexpr unsigned kMostPieces = 4;
constexpr std::string_view kBegins = R"({"lb":1,"ok":)";

/// A cluster with one worker, which is this process.
struct World {
  std::string name = "@lb-admin-fuzz-" + std::to_string(::getpid());
  Endpoint address = Endpoint::parse("unix:" + name).value();
  std::unique_ptr<Cluster::Impl> cluster;
  std::optional<Worker> worker;

  World() {
    Options options;
    options.workers = 1;
    options.policy = Policy::parse("shared").value();
    options.admin_socket = name;
    cluster = Cluster::Impl::create(std::move(options)).value();
  }
  void turn() {
    if (!cluster->turn(std::chrono::milliseconds(0))) std::abort();
  }
};

/// This program is not to be executed once more.
bool upgrades(std::string_view said) {
  const auto parsed = parse_admin_request(said.substr(0, said.find('\n')));
  const auto* request = std::get_if<AdminRequest>(&parsed);
  return request != nullptr && request->verb == AdminRequest::Verb::upgrade;
}

/// One object, as far as brackets and strings tell.
void check(const std::string& answer) {
  if (answer.empty()) return;
  if (!answer.starts_with(kBegins) || !answer.ends_with("}\n")) std::abort();
  int depth = 0;
  bool in_text = false;
  for (size_t i = 0; i + 1 < answer.size(); ++i) {
    const char c = answer[i];
    if (static_cast<unsigned char>(c) < 0x20) std::abort();
    if (in_text && c == '\\')
      ++i;
    else if (c == '"')
      in_text = !in_text;
    else if (!in_text)
      depth += c == '{' || c == '[' ? 1 : c == '}' || c == ']' ? -1 : 0;
    if (depth == 0 && i + 2 < answer.size()) std::abort();
  }
  if (depth != 0 || in_text) std::abort();
}

}  // namespace
}  // namespace lb

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  static lb::World& world = *new lb::World;
  if (!world.worker || world.worker->draining()) {
    world.worker.reset();
    for (int turns = 0; turns < 4 && !world.cluster->workers().empty(); ++turns) world.turn();
    if (auto joined = world.cluster->join()) world.worker.emplace(std::move(*joined));
  }
  lb::fuzz::Input input(bytes, size);
  lb::UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::connect(client.get(), world.address.address(), world.address.length()) != 0) std::abort();
  std::vector<std::string> pieces(1 + input.below(lb::kMostPieces));
  std::string said;
  for (auto& piece : pieces) said += piece = input.text(&piece == &pieces.back() ? size : input.below(16));
  if (lb::upgrades(said)) return 0;
  for (const auto& piece : pieces) {
    (void)::send(client.get(), piece.data(), piece.size(), MSG_NOSIGNAL);
    world.turn();
  }
  std::string answer;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::recv(client.get(), buffer, sizeof buffer, 0)) > 0;) answer.append(buffer, static_cast<size_t>(n));
  lb::check(answer);
  client.reset();
  world.turn();
  if (world.worker) (void)world.worker->dispatch();
  return 0;
}
