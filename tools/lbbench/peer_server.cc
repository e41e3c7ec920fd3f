// SPDX-License-Identifier: MIT
#include "peer_server.hh"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <lb/unique_fd.hh>
#include <optional>
#include <random>
#include <sstream>
#include <system_error>

#include "child.hh"
#include "clock.hh"
#include "http_talk.hh"
#include "process_tree.hh"

namespace lbbench {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kStartNs = 15'000'000'000;
constexpr int kLookMs = 10;
constexpr int kStopMs = 3'000;
constexpr timeval kProbeTimeout{.tv_sec = 1, .tv_usec = 0};

std::system_error failure(const char* what) { return {errno, std::generic_category(), what}; }

sockaddr_in loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

/// One that nobody has, below those that the kernel gives to clients and to port 0 (ip(7), ip_local_port_range): so nobody but a
/// program that asks for this very one takes it before the peer does.
uint16_t free_port() {
  constexpr uint16_t kFirst = 10'000;
  uint16_t end = 32'768;
  std::ifstream("/proc/sys/net/ipv4/ip_local_port_range") >> end;
  if (end <= kFirst + 1000) end = 60'999;
  std::random_device random;
  for (int i = 0; i < 1000; ++i) {
    const auto port = std::uniform_int_distribution<uint16_t>(kFirst, end - 1)(random);
    const lb::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = loopback(port);
    if (fd && bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return port;
  }
  throw std::runtime_error("no free port on 127.0.0.1");
}

/// A directory that goes with this object.
class Directory {
 public:
  Directory() : path_((fs::temp_directory_path() / "lbbench-XXXXXX").string()) {
    if (mkdtemp(path_.data()) == nullptr) throw failure("mkdtemp");
  }
  ~Directory() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  const std::string& path() const { return path_; }
  std::string file(std::string_view name) const { return fmt::format("{}/{}", path_, name); }

 private:
  std::string path_;
};

std::string read_file(const std::string& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

std::string last_line(std::string text) {
  while (text.ends_with('\n')) text.pop_back();
  return text.substr(text.rfind('\n') + 1);
}

/// Becomes the program, its output in the file.
int become(const std::string& path, const std::vector<std::string>& arguments, const std::string& output) {
  const int null = open("/dev/null", O_RDONLY);
  const int out = open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND, 0600);
  if (null < 0 || out < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0) return 127;
  if (close_range(3, ~0U, 0) != 0) return 127;  // Linux 5.9
  std::signal(SIGPIPE, SIG_DFL);
  std::vector<char*> argv{const_cast<char*>(path.c_str())};
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  execv(path.c_str(), argv.data());
  (void)!write(2, std::strerror(errno), std::strlen(std::strerror(errno)));
  return 127;
}

/// Whether GET / is answered with 200.
bool answers(uint16_t port) {
  const lb::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_in address = loopback(port);
  std::array<char, kHttpRequestMax> request{};
  const size_t size = write_http_request(request, Work::sleep, 0, true);
  if (!fd || setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &kProbeTimeout, sizeof kProbeTimeout) != 0 ||
      connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      send(fd.get(), request.data(), size, MSG_NOSIGNAL) != static_cast<ssize_t>(size))
    return false;
  HttpAnswer answer;
  auto state = HttpAnswer::State::incomplete;
  std::array<char, 1024> bytes{};
  while (state == HttpAnswer::State::incomplete) {
    const ssize_t n = recv(fd.get(), bytes.data(), bytes.size(), 0);
    if (n <= 0) return false;
    state = answer.take({bytes.data(), static_cast<size_t>(n)});
  }
  return state == HttpAnswer::State::complete;
}

template <size_t N>
void put(std::array<char, N>& to, const std::string& text) {
  to[text.copy(to.data(), N - 1)] = '\0';
}

class PeerServer {
 public:
  PeerServer(const Peer& peer, const PeerProgram& program, unsigned workers, ServerReport& report)
      : peer_(peer), report_(report), workers_(workers), port_(free_port()) {
    const Placeholders values{workers, port_, directory_.path(), peer.listen};
    std::ofstream(directory_.file(peer.configuration)) << fill_in(std::string(peer_file(peer.configuration)), values);
    std::vector<std::string> arguments;
    for (const auto& argument : peer.arguments) arguments.push_back(fill_in(argument, values));
    const std::string output = directory_.file("output");
    root_.emplace([&] { return become(program.path, arguments, output); });
  }
  ~PeerServer() { stop(); }
  PeerServer(const PeerServer&) = delete;
  PeerServer& operator=(const PeerServer&) = delete;

  /// False, with the reason in the report, when it does not come up, or is not wanted any more.
  bool wait_until_ready(int stop_fd) {
    const uint64_t deadline_ns = now_ns() + kStartNs;
    while (!ready()) {
      pollfd fds[] = {{root_->fd(), POLLIN, 0}, {stop_fd, POLLIN, 0}};
      ::poll(fds, 2, kLookMs);
      if (fds[0].revents != 0) return failed(fmt::format("{} ended at once: {}", peer_.program, last_line(output())));
      if (fds[1].revents != 0) return failed("stopped before it was ready");
      if (now_ns() > deadline_ns) return failed(fmt::format("{} was not ready after 15 s: {}", peer_.program, last_line(output())));
    }
    describe();
    return true;
  }

  /// False when it ended by itself.
  bool run_until(int stop_fd) {
    pollfd fds[] = {{root_->fd(), POLLIN, 0}, {stop_fd, POLLIN, 0}};
    while (::poll(fds, 2, -1) < 0 && errno == EINTR) {
    }
    return fds[0].revents == 0;
  }

 private:
  bool failed(const std::string& why) {
    put(report_.error, why);
    return false;
  }

  std::string output() const { return read_file(directory_.file("output")); }

  bool ready() const {
    if (peer_.workers != Peer::Workers::threads && children_of(root_->pid()).size() < workers_) return false;
    if (peer_.announces && output().find("ready\n") == std::string::npos) return false;
    return answers(port_);
  }

  void describe() {
    report_.port = port_;
    put(report_.effective, peer_.name);
    const bool threads = peer_.workers == Peer::Workers::threads;
    const auto children = threads ? std::vector{root_->pid()} : children_of(root_->pid());
    report_.primary_pid = threads ? 0 : root_->pid();
    report_.workers = std::min(workers_, kWorkersMax);
    for (uint32_t i = 0; i < report_.workers; ++i) {
      report_.worker_pids[i] = i < children.size() ? children[i] : 0;
      report_.worker_ids[i] = peer_.workers == Peer::Workers::processes_by_pid    ? static_cast<uint32_t>(report_.worker_pids[i])
                              : peer_.workers == Peer::Workers::processes_in_turn ? i + 1
                                                                                  : i;
    }
  }

  /// SIGTERM; after a while SIGKILL to all that it started, who are ours to wait for since their parent has gone.
  void stop() {
    ::kill(root_->pid(), SIGTERM);
    root_->wait(kStopMs);
    for (const pid_t pid : descendants_of(getpid())) ::kill(pid, SIGKILL);
    while (waitpid(-1, nullptr, 0) > 0 || errno == EINTR) {
    }
  }

  const Peer& peer_;
  ServerReport& report_;
  const unsigned workers_;
  const uint16_t port_;
  Directory directory_;
  std::optional<Child> root_;
};

std::string search(const std::string& program) {
  const char* path = std::getenv("PATH");
  std::istringstream places(fmt::format("{}:/usr/sbin:/sbin:/usr/local/sbin", path != nullptr ? path : "/usr/bin:/bin"));
  for (std::string place; std::getline(places, place, ':');) {
    const std::string file = place + '/' + program;
    if (!place.empty() && access(file.c_str(), X_OK) == 0) return file;
  }
  return "";
}

}  // namespace

std::variant<PeerProgram, std::string> find_program(const Peer& peer) {
  const std::string path = search(peer.program);
  if (path.empty()) return fmt::format("{} is not installed; it is in the Debian package {}", peer.program, peer.package);
  const Directory directory;
  const std::string output = directory.file("version");
  const int code = Child([&] { return become(path, {peer.version_option}, output); }).wait(kStopMs);
  if (code != 0) return fmt::format("{} {} failed: {}", path, peer.version_option, last_line(read_file(output)));
  const std::string version = version_from(read_file(output));
  if (const auto why = peer.shortcoming != nullptr ? peer.shortcoming(version) : ""; !why.empty()) return why;
  return PeerProgram{path, version};
}

int run_peer(const Peer& peer, const PeerProgram& program, unsigned workers, ServerReport& report, int ready_fd, int stop_fd) {
  prctl(PR_SET_PDEATHSIG, 0);  // the end of stop_fd tells it too, and leaves time to stop the peer
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  try {
    PeerServer server(peer, program, workers, report);
    if (!server.wait_until_ready(stop_fd) || write(ready_fd, "r", 1) != 1) return 1;
    return server.run_until(stop_fd) ? 0 : 1;
  } catch (const std::exception& error) {
    put(report.error, error.what());
    return 1;
  }
}

}  // namespace lbbench
