// SPDX-License-Identifier: MIT
#include "peer.hh"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdio>

namespace lbbench {
namespace {

Peer nginx(std::string name, std::string sentence, std::string listen) {
  return {.name = std::move(name),
          .sentence = std::move(sentence),
          .program = "nginx",
          .package = "nginx",
          .configuration = "nginx.conf",
          .arguments = {"-e", "stderr", "-p", "@DIRECTORY@", "-c", "@DIRECTORY@/nginx.conf"},
          .listen = std::move(listen),
          .workers = Peer::Workers::processes_by_pid,
          .version_option = "-v"};
}

Peer haproxy(std::string name, std::string sentence, std::string listen) {
  return {.name = std::move(name),
          .sentence = std::move(sentence),
          .program = "haproxy",
          .package = "haproxy",
          .configuration = "haproxy.cfg",
          .arguments = {"-q", "-db", "-f", "@DIRECTORY@/haproxy.cfg"},
          .listen = std::move(listen),
          .workers = Peer::Workers::threads,
          .version_option = "-v"};
}

Peer node(std::string name, std::string sentence, std::string policy) {
  return {.name = std::move(name),
          .sentence = std::move(sentence),
          .program = "node",
          .package = "nodejs",
          .configuration = "node.js",
          .arguments = {"@DIRECTORY@/node.js", std::move(policy), "@PORT@", "@WORKERS@"},
          .workers = Peer::Workers::processes_in_turn,
          .announces = true,
          .sleeps = true,
          .version_option = "--version"};
}

Peer with_shortcoming(Peer peer, std::string (*shortcoming)(std::string_view)) {
  peer.shortcoming = shortcoming;
  return peer;
}

}  // namespace

std::span<const Peer> peers() {
  static const std::array table{
      nginx("nginx", "nginx, a socket for each worker process: the kernel's hash chooses.", " reuseport"),
      nginx("nginx-shared", "nginx, one socket for all worker processes, its default.", ""),
      haproxy("haproxy", "HAProxy answering by itself: threads, one socket, and it chooses by load.", ""),
      haproxy("haproxy-shards", "The same with a socket for each thread: the kernel's hash chooses.", " shards by-thread"),
      node("node-rr", "Node.js's cluster, its default: the primary hands connections on in turn.", "rr"),
      node("node-shared", "Node.js's cluster with SCHED_NONE: all workers accept from one socket.", "shared"),
      with_shortcoming(node("node-reuseport", "Node.js's cluster, each worker with listen({ reusePort: true }).", "reuseport"),
                       no_reuse_port),
  };
  return table;
}

const Peer* find_peer(std::string_view name) {
  const auto all = peers();
  const auto found = std::ranges::find(all, name, &Peer::name);
  return found == all.end() ? nullptr : &*found;
}

std::string peer_names() {
  std::vector<std::string_view> names;
  for (const auto& peer : peers()) names.push_back(peer.name);
  return fmt::format("{}", fmt::join(names, ", "));
}

std::string version_from(std::string_view output) {
  std::string line(output.substr(0, output.find('\n')));
  if (constexpr std::string_view kNginx = "nginx version: "; line.starts_with(kNginx)) return line.substr(kNginx.size());
  if (constexpr std::string_view kHaproxy = "HAProxy version "; line.starts_with(kHaproxy))
    return "HAProxy " + line.substr(kHaproxy.size(), line.find(' ', kHaproxy.size()) - kHaproxy.size());
  if (line.starts_with('v')) return "Node.js " + line.substr(1);
  return line;
}

std::string no_reuse_port(std::string_view version) {
  int major = 0;
  int minor = 0;
  const std::string text(version);
  if (std::sscanf(text.c_str(), "Node.js %d.%d", &major, &minor) != 2) return "";
  const bool has = major > 23 || (major == 23 && minor >= 1) || (major == 22 && minor >= 12);
  return has ? "" : fmt::format("{} has no listen({{ reusePort }}), which came with 22.12 and 23.1", version);
}

std::string fill_in(std::string text, const Placeholders& values) {
  const auto replace = [&](std::string_view word, const std::string& value) {
    for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + value.size()))
      text.replace(at, word.size(), value);
  };
  replace("@WORKERS@", std::to_string(values.workers));
  replace("@PORT@", std::to_string(values.port));
  replace("@DIRECTORY@", values.directory);
  replace("@LISTEN@", values.listen);
  return text;
}

std::string_view peer_file(std::string_view name) {
  const std::span files(kPeerFiles, kPeerFileCount);
  const auto found = std::ranges::find(files, name, [](const EmbeddedFile& file) { return std::string_view(file.name); });
  return found == files.end() ? std::string_view{} : found->text;
}

}  // namespace lbbench
