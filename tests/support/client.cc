// SPDX-License-Identifier: MIT
#include "client.hh"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <utility>

namespace lb::test {
namespace {

const char* name_of(Client::State state) noexcept {
  constexpr std::array names{"connecting", "connected", "greeted", "answered", "finished", "refused", "lost", "left"};
  return names[static_cast<size_t>(state)];
}

}  // namespace

Client::Client(const Endpoint& to, Number number) : Client(to, number, "") {}

Client::Client(const Endpoint& to, Number number, const std::string& from)
    : fd_(::socket(to.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)), number_(number) {
  if (!from.empty()) {
    const auto source = Endpoint::parse("tcp://" + from + ":0").value();
    if (::bind(fd_.get(), source.address(), source.length()) != 0) {
      end(State::lost, errno);
      return;
    }
  }
  if (fd_ && ::connect(fd_.get(), to.address(), to.length()) == 0) {
    state_ = State::connected;
  } else if (errno != EINPROGRESS) {
    end(errno == ECONNREFUSED || errno == ENOENT ? State::refused : State::lost, errno);  // ENOENT: a UNIX path is gone
  }
}

void Client::ask() {
  asked_ = true;
  if (over() || state_ == State::connecting || std::exchange(sent_, true)) return;  // twice would earn it a reset
  const ssize_t sent = ::send(fd_.get(), &number_, sizeof number_, MSG_NOSIGNAL);
  if (sent != sizeof number_) end(State::lost, errno);
}

void Client::step() {
  if (state_ == State::connecting) finish_connecting();
  while (!over() && state_ != State::connecting && receive()) {
  }
}

void Client::leave() {
  if (over()) return;
  ::shutdown(fd_.get(), SHUT_RDWR);
  end(State::left);
}

pollfd Client::interest() const noexcept {
  return {.fd = fd_.get(), .events = static_cast<short>(state_ == State::connecting ? POLLOUT : POLLIN), .revents = 0};
}

Endpoint Client::address() const {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &length);
  return Endpoint::from_sockaddr(reinterpret_cast<sockaddr*>(&address), length).value();
}

std::string Client::describe() const {
  auto text = "client " + std::to_string(number_) + " " + name_of(state_);
  if (worker_ != 0) text += " by worker " + std::to_string(worker_);
  if (error_ != 0) text += std::string(": ") + std::strerror(error_);
  return text;
}

void Client::finish_connecting() {
  pollfd ready = interest();
  if (::poll(&ready, 1, 0) != 1) return;
  int error = 0;
  socklen_t length = sizeof error;
  ::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length);
  if (error != 0) return end(error == ECONNREFUSED ? State::refused : State::lost, error);
  state_ = State::connected;
  if (asked_) ask();
}

/// False when there is nothing more for now.
bool Client::receive() {
  unsigned char excess = 0;  // after the answer only the end may follow
  const bool answered = state_ == State::answered;
  const ssize_t n = answered ? ::recv(fd_.get(), &excess, 1, MSG_DONTWAIT)
                             : ::recv(fd_.get(), in_.data() + received_, in_.size() - received_, MSG_DONTWAIT);
  if (n < 0 && errno == EAGAIN) return false;
  if (answered || n <= 0) {
    end(answered && n == 0 ? State::finished : State::lost, n < 0 ? errno : 0);
    return false;
  }
  received_ += static_cast<size_t>(n);
  if (received_ >= sizeof(Hello) && worker_ == 0) {
    Hello hello{};
    std::memcpy(&hello, in_.data(), sizeof hello);
    worker_ = hello.worker;
    pid_ = hello.pid;
    state_ = State::greeted;
  }
  if (received_ == in_.size()) {
    Number answer = 0;
    std::memcpy(&answer, in_.data() + sizeof(Hello), sizeof answer);
    state_ = State::answered;
    if (answer != number_) end(State::lost, EBADMSG);
  }
  return true;
}

void Client::end(State state, int error) {
  state_ = state;
  error_ = error;
  fd_.reset();
}

void Crowd::connect(const Endpoint& to, size_t count) {
  for (size_t i = 0; i < count; ++i) clients_.emplace_back(to, clients_.size());
}

void Crowd::connect_from(const std::string& address, const Endpoint& to) { clients_.emplace_back(to, clients_.size(), address); }

void Crowd::ask_all() {
  for (auto& client : clients_) client.ask();
}

void Crowd::leave_all() {
  for (auto& client : clients_) client.leave();
}

void Crowd::step() {
  for (auto& client : clients_) client.step();
}

size_t Crowd::count(Client::State state) const noexcept {
  const auto n = std::count_if(clients_.begin(), clients_.end(), [&](const Client& c) { return c.state() == state; });
  return static_cast<size_t>(n);
}

size_t Crowd::greeted() const noexcept {
  const auto n = std::count_if(clients_.begin(), clients_.end(), [](const Client& c) { return c.greeted(); });
  return static_cast<size_t>(n);
}

std::vector<unsigned> Crowd::per_worker() const {
  std::vector<unsigned> shares;
  for (const auto& client : clients_) {
    if (client.worker() >= shares.size()) shares.resize(client.worker() + 1);
    if (client.worker() != 0) ++shares[client.worker()];
  }
  return shares;
}

Client* Crowd::of_worker(uint32_t worker) noexcept {
  const auto found = std::find_if(clients_.begin(), clients_.end(),
                                  [&](const Client& c) { return c.worker() == worker && c.state() == Client::State::greeted; });
  return found == clients_.end() ? nullptr : &*found;
}

std::string Crowd::describe() const {
  std::map<std::string, int> kinds;
  for (const auto& client : clients_) {
    const auto text = client.describe();
    ++kinds[text.substr(text.find(' ', 7) + 1)];  // without the number
  }
  std::string text;
  for (const auto& [kind, n] : kinds) text += "  " + std::to_string(n) + " clients " + kind + "\n";
  return text;
}

}  // namespace lb::test
