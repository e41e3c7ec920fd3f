// SPDX-License-Identifier: MIT
// The public face. What was asked for outside a poll wakes whoever waits for the cluster's descriptor.
#include <lb/cluster.hh>

#include "primary/cluster_impl.hh"

namespace lb {

using std::chrono::milliseconds;

Cluster::Cluster(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}
Cluster::Cluster(Cluster&&) noexcept = default;
Cluster& Cluster::operator=(Cluster&&) noexcept = default;
Cluster::~Cluster() = default;

Result<Cluster> Cluster::create(Options options) noexcept {
  auto impl = Impl::create(std::move(options));
  if (!impl) return impl.error();
  return Cluster(std::move(*impl));
}
Result<uint32_t> Cluster::spawn(WorkerFunction function, std::vector<std::string> env) noexcept {
  auto id = impl_->spawn({WorkerKind::forked, std::move(function), std::move(env), {}});
  impl_->wake_poller();
  return id;
}
Result<uint32_t> Cluster::spawn(Command command) noexcept {
  auto id = impl_->spawn({WorkerKind::command, {}, {}, std::move(command)});
  impl_->wake_poller();
  return id;
}
Result<uint32_t> Cluster::spawn_thread(WorkerFunction function) noexcept {
  auto id = impl_->spawn({WorkerKind::thread, std::move(function), {}, {}});
  impl_->wake_poller();
  return id;
}
Result<Worker> Cluster::join() noexcept {
  auto worker = impl_->join();
  impl_->wake_poller();
  return worker;
}
Result<void> Cluster::poll(milliseconds timeout) noexcept {
  auto turned = impl_->turn(timeout);
  if (impl_->polled()) impl_->prepare_to_be_polled();
  return turned;
}
int Cluster::fd() const noexcept { return impl_->fd(); }
Result<void> Cluster::watch(int fd, std::function<void()> on_readable) noexcept {
  auto token = impl_->loop().watch(fd, std::move(on_readable));
  if (!token) return token.error();
  return {};
}
Result<void> Cluster::set_blob(std::string_view endpoint, std::string_view blob) noexcept {
  return impl_->set_blob(endpoint, blob);
}
Result<void> Cluster::send(uint32_t worker, std::span<const std::byte> bytes, int fd) noexcept {
  return impl_->send(worker, bytes, fd);
}
Result<void> Cluster::drain(uint32_t worker) noexcept { return drain(worker, impl_->options().drain_deadline); }
Result<void> Cluster::drain(uint32_t worker, milliseconds deadline) noexcept {
  auto drained = impl_->drain(worker, deadline);
  impl_->wake_poller();
  return drained;
}
Result<void> Cluster::kill(uint32_t worker, int signal) noexcept {
  auto killed = impl_->kill(worker, signal);
  impl_->wake_poller();
  return killed;
}
Result<void> Cluster::set_weight(uint32_t worker, uint16_t weight) noexcept { return impl_->set_weight(worker, weight); }
Result<void> Cluster::upgrade(Command command) noexcept {
  auto begun = impl_->upgrade(std::move(command));
  impl_->wake_poller();
  return begun;
}
bool Cluster::is_connected(uint32_t worker) const noexcept {
  const WorkerRecord* record = impl_->find(worker);
  return record != nullptr && record->channel;
}
bool Cluster::is_dead(uint32_t worker) const noexcept { return impl_->ever_had(worker) && impl_->find(worker) == nullptr; }
Result<void> Cluster::set_policy(Policy policy) noexcept {
  auto set = impl_->set_policy(policy, nullptr);
  impl_->wake_poller();
  return set;
}
Result<void> Cluster::set_policy(std::string_view endpoint, Policy policy) noexcept {
  auto parsed = Endpoint::parse(endpoint);
  if (!parsed) return parsed.error();
  auto set = impl_->set_policy(policy, &*parsed);
  impl_->wake_poller();
  return set;
}
Result<void> Cluster::scale(unsigned workers) noexcept {
  auto asked = impl_->scale(workers);
  impl_->wake_poller();
  return asked;
}
Result<void> Cluster::roll() noexcept { return roll(impl_->options().roll); }
Result<void> Cluster::roll(RollOptions options) noexcept {
  auto asked = impl_->roll(std::move(options));
  impl_->wake_poller();
  return asked;
}
std::vector<WorkerStatus> Cluster::workers() const { return impl_->workers(); }
void Cluster::shutdown() noexcept {
  impl_->shutdown();
  impl_->wake_poller();
}
void Cluster::kill() noexcept {
  impl_->kill();
  impl_->wake_poller();
}
bool Cluster::done() const noexcept { return impl_->done(); }
int Cluster::exit_code() const noexcept { return impl_->exit_code(); }
Status Cluster::status() const { return impl_->status(); }

}  // namespace lb
