// SPDX-License-Identifier: MIT
#include "sys/event_loop.hh"

#include <liburing.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <deque>
#include <vector>

#include "sys/error.hh"
#include "sys/forked.hh"
#include "sys/socket.hh"

namespace lb {
namespace {

constexpr unsigned kSubmissions = 256;
constexpr unsigned kCompletions = 4096;
constexpr uint64_t kNobody = 0;  // completions that nobody waits for

/// io_uring: multishot accept for listening sockets, one-shot polls, armed again each turn, for the rest.
/// (A multishot poll is edge-like: what is already queued gives no further event.)
class UringLoop final : public EventLoop {
 public:
  UringLoop() noexcept = default;
  ~UringLoop() override;

  Result<void> open() noexcept;

  const char* name() const noexcept override { return "io_uring"; }
  int fd() noexcept override;
  void flush() noexcept override { ::io_uring_submit(&ring_); }
  void before_fork() noexcept override;
  void after_fork() noexcept override;

  Result<Token> watch(int fd, OnReadable on_readable) noexcept override { return add(fd, std::move(on_readable), {}); }
  Result<Token> accept(int listening_fd, OnAccept on_accept) noexcept override {
    return add(listening_fd, {}, std::move(on_accept));
  }
  void pause(Token token) noexcept override;
  Result<void> resume(Token token) noexcept override;
  void cancel(Token token) noexcept override;
  Result<void> turn(int timeout_ms) noexcept override;

 private:
  struct Entry {
    Token token = kNobody;
    int fd = -1;
    OnReadable on_readable;
    OnAccept on_accept;
    unsigned failures = 0;  // of accepts, in a row
    bool armed = false;     // the kernel holds a request for it
    bool paused = false;
    bool cancelled = false;
  };
  struct Completion {
    Token token;
    int result;
    unsigned flags;
  };

  Result<Token> add(int fd, OnReadable on_readable, OnAccept on_accept) noexcept;
  Entry* find(Token token) noexcept;
  void show_in_hint(const Entry& entry, bool shown) noexcept;
  io_uring_sqe* next_sqe() noexcept;
  void arm(Entry& entry) noexcept;
  void disarm(Entry& entry) noexcept;
  void complete(const Completion& completion) noexcept;
  void complete_accept(Entry& entry, const Completion& completion) noexcept;
  bool take(Completion& completion) noexcept;

  io_uring ring_{};
  UniqueFd hint_;  // epoll, once somebody has asked for fd()
  bool open_ = false;
  bool kept_from_children_ = false;
  bool deferred_ = false;  // completions are posted only when we enter the ring for them
  bool forking_ = false;
  std::vector<std::unique_ptr<Entry>> entries_;
  std::vector<Token> readable_;     // fired in this turn: called back, then armed again
  std::deque<Completion> put_off_;  // met while waiting for one entry's last completion
  Token last_token_ = kNobody;
  bool sweep_ = false;
};

Result<void> UringLoop::open() noexcept {
  // Completions are run when we ask for them and interrupt nothing (6.1); older kernels get less.
  const unsigned flag_choices[] = {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN, IORING_SETUP_COOP_TASKRUN, 0};
  int status = -EINVAL;
  for (const unsigned flags : flag_choices) {
    io_uring_params params{};
    params.flags = flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    params.cq_entries = kCompletions;
    status = ::io_uring_queue_init_params(kSubmissions, &ring_, &params);
    deferred_ = (flags & IORING_SETUP_DEFER_TASKRUN) != 0;
    if (status != -EINVAL) break;
  }
  if (status < 0) return Error{-status, "io_uring_setup"};
  open_ = true;
  kept_from_children_ = ::io_uring_ring_dontfork(&ring_) == 0;  // nor need fork(2) copy its page table

  // Is multishot accept there? An old kernel refuses it at once; a listener without clients otherwise stays silent.
  const UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  sockaddr_un any{};
  any.sun_family = AF_UNIX;
  if (!probe || ::bind(probe.get(), reinterpret_cast<sockaddr*>(&any), sizeof(sa_family_t)) != 0 || ::listen(probe.get(), 1) != 0)
    return last_error("io_uring probe");
  constexpr Token kProbe = 1;
  last_token_ = kProbe;
  io_uring_sqe* sqe = next_sqe();
  ::io_uring_prep_multishot_accept(sqe, probe.get(), nullptr, nullptr, SOCK_CLOEXEC);
  ::io_uring_sqe_set_data64(sqe, kProbe);
  sqe = next_sqe();
  ::io_uring_prep_cancel64(sqe, kProbe, 0);
  ::io_uring_sqe_set_data64(sqe, kNobody);
  do {
    status = ::io_uring_submit_and_wait(&ring_, 2);
  } while (status == -EINTR);
  if (status < 0) return Error{-status, "io_uring_enter"};
  for (Completion completion; take(completion);)
    if (completion.token == kProbe && completion.result != -ECANCELED)
      return Error{-completion.result, "io_uring multishot accept"};
  return {};
}

Result<EventLoop::Token> UringLoop::add(int fd, OnReadable on_readable, OnAccept on_accept) noexcept {
  auto entry = std::make_unique<Entry>();
  entry->token = ++last_token_;
  entry->fd = fd;
  entry->on_readable = std::move(on_readable);
  entry->on_accept = std::move(on_accept);
  const bool accepts = static_cast<bool>(entry->on_accept);
  arm(*entry);
  if (accepts) flush();  // the rest the kernel hears of in the next turn
  show_in_hint(*entry, true);
  const Token token = entry->token;
  entries_.push_back(std::move(entry));
  return token;
}

UringLoop::Entry* UringLoop::find(Token token) noexcept {
  for (auto& entry : entries_)
    if (entry->token == token && !entry->cancelled) return entry.get();
  return nullptr;
}

io_uring_sqe* UringLoop::next_sqe() noexcept {
  io_uring_sqe* sqe = ::io_uring_get_sqe(&ring_);
  while (sqe == nullptr) {
    ::io_uring_submit(&ring_);
    sqe = ::io_uring_get_sqe(&ring_);
  }
  return sqe;
}

void UringLoop::arm(Entry& entry) noexcept {
  io_uring_sqe* sqe = next_sqe();
  if (entry.on_accept)
    ::io_uring_prep_multishot_accept(sqe, entry.fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
  else
    ::io_uring_prep_poll_add(sqe, entry.fd, POLLIN);
  ::io_uring_sqe_set_data64(sqe, entry.token);
  entry.armed = true;
}

/// Takes the request back from the kernel. For an accept, all that it had accepted is delivered first: an armed multishot
/// accept would keep the listener alive after its close.
void UringLoop::disarm(Entry& entry) noexcept {
  const auto is_own = [&](const Completion& completion) { return completion.token == entry.token; };
  const auto complete_own = [&](const Completion& completion) {
    if (entry.on_accept)
      complete_accept(entry, completion);
    else
      entry.armed = false;
  };
  // One by one: the callback may come here again, for this entry too.
  for (;;) {
    const auto at = std::find_if(put_off_.begin(), put_off_.end(), is_own);
    if (at == put_off_.end()) break;
    const Completion completion = *at;
    put_off_.erase(at);
    complete_own(completion);
  }
  if (!entry.armed) return;
  io_uring_sqe* sqe = next_sqe();
  ::io_uring_prep_cancel64(sqe, entry.token, 0);
  ::io_uring_sqe_set_data64(sqe, kNobody);
  while (entry.armed) {
    const int status = ::io_uring_submit_and_wait(&ring_, 1);
    // EBUSY: the kernel has completions that found no room in the ring; taking what is there makes some.
    if (status < 0 && status != -EINTR && status != -EBUSY && status != -EAGAIN) return;
    for (Completion completion; take(completion);) {
      if (is_own(completion))
        complete_own(completion);
      else
        put_off_.push_back(completion);
    }
  }
}

UringLoop::~UringLoop() {
  if (!open_) return;
  if (!abandoned_)
    for (Completion completion; take(completion);) put_off_.push_back(completion);
  for (const Completion& completion : put_off_)  // connections that nobody has come to
    if (const Entry* entry = find(completion.token); entry != nullptr && entry->on_accept && completion.result >= 0)
      ::close(completion.result);
  if (abandoned_) {
    for (auto& entry : entries_) std::destroy_at(entry.get());
    leave(std::move(entries_));
  }
  if (abandoned_ && kept_from_children_)
    ::close(ring_.ring_fd);  // its memory is not here
  else
    ::io_uring_queue_exit(&ring_);
}

void UringLoop::before_fork() noexcept {
  forking_ = true;
  if (!deferred_) {                               // completions may come at any system call, fork included
    for (size_t i = 0; i < entries_.size(); ++i)  // callbacks may add some
      if (entries_[i]->on_accept && !entries_[i]->paused) disarm(*entries_[i]);
  }
  for (Completion completion; take(completion);) put_off_.push_back(completion);
}

void UringLoop::after_fork() noexcept {
  forking_ = false;
  for (auto& entry : entries_)
    if (entry->on_accept && !entry->armed && !entry->paused && !entry->cancelled) arm(*entry);
}

/// The ring's own descriptor does not wake who polls it while task work is deferred, and an eventfd registered with the ring
/// loses signals when an eventfd that we watch is what should set it off (both seen on 6.18). So who asks for one descriptor
/// gets an epoll instance of all that we watch; only then is it kept.
int UringLoop::fd() noexcept {
  if (!hint_) {
    hint_ = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
    for (const auto& entry : entries_) show_in_hint(*entry, true);
  }
  return hint_.get();
}

void UringLoop::show_in_hint(const Entry& entry, bool shown) noexcept {
  if (!hint_ || entry.cancelled || (shown && entry.paused)) return;
  epoll_event event{};
  event.events = EPOLLIN;
  ::epoll_ctl(hint_.get(), shown ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, entry.fd, &event);
}

void UringLoop::pause(Token token) noexcept {
  Entry* entry = find(token);
  if (entry == nullptr || entry->paused) return;
  show_in_hint(*entry, false);
  entry->paused = true;
  disarm(*entry);
}

Result<void> UringLoop::resume(Token token) noexcept {
  Entry* entry = find(token);
  if (entry == nullptr || !entry->paused) return {};
  entry->paused = false;
  show_in_hint(*entry, true);
  if (!entry->armed) arm(*entry);
  return {};
}

void UringLoop::cancel(Token token) noexcept {
  Entry* entry = find(token);
  if (entry == nullptr || abandoned_) return;
  if (!entry->paused) show_in_hint(*entry, false);
  entry->paused = true;
  disarm(*entry);
  entry->cancelled = true;  // destroyed after the turn: this may be its own callback
  sweep_ = true;
}

bool UringLoop::take(Completion& completion) noexcept {
  io_uring_cqe* cqe = nullptr;
  if (::io_uring_peek_cqe(&ring_, &cqe) != 0 || cqe == nullptr) return false;
  completion = {cqe->user_data, cqe->res, cqe->flags};
  ::io_uring_cqe_seen(&ring_, cqe);
  return true;
}

void UringLoop::complete_accept(Entry& entry, const Completion& completion) noexcept {
  entry.armed = (completion.flags & IORING_CQE_F_MORE) != 0;
  const int error = completion.result < 0 ? -completion.result : 0;
  if (error == 0) {
    entry.failures = 0;
    entry.on_accept(UniqueFd(completion.result));
  } else if (error != ECANCELED) {
    const AcceptVerdict verdict = accept_verdict(error);
    const bool again = verdict == AcceptVerdict::none || (verdict == AcceptVerdict::retry && ++entry.failures < kAcceptTries);
    if (!again) {
      entry.failures = 0;
      show_in_hint(entry, false);
      entry.paused = true;
      entry.on_accept(Error{error, "accept"});
    }
  }
  if (!entry.armed && !entry.paused && !entry.cancelled && !forking_) arm(entry);  // a multishot accept may end at any time
}

void UringLoop::complete(const Completion& completion) noexcept {
  if (completion.token == kNobody) return;
  Entry* entry = find(completion.token);
  if (entry == nullptr) {  // cancelled while the completion was put off: nobody wants what was accepted any more
    return;
  }
  if (entry->on_accept) return complete_accept(*entry, completion);
  entry->armed = false;
  if (completion.result != -ECANCELED) readable_.push_back(entry->token);
}

Result<void> UringLoop::turn(int timeout_ms) noexcept {
  int status = 0;
  const Sleep sleep = !put_off_.empty() || ::io_uring_cq_ready(&ring_) != 0 ? Sleep::no : ask_to_sleep(timeout_ms);
  if (sleep == Sleep::no || nap(sleep)) {
    status = ::io_uring_submit_and_get_events(&ring_);
  } else {
    io_uring_cqe* cqe = nullptr;
    __kernel_timespec timeout{timeout_ms / 1000, (timeout_ms % 1000) * 1'000'000LL};
    status = ::io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, timeout_ms < 0 ? nullptr : &timeout, nullptr);
  }
  tell_awake();
  if (status < 0 && status != -ETIME && status != -EINTR && status != -EBUSY) return Error{-status, "io_uring_enter"};

  while (!put_off_.empty()) {
    const Completion completion = put_off_.front();
    put_off_.pop_front();
    complete(completion);
  }
  for (Completion completion; take(completion);) complete(completion);
  for (const Token token : std::exchange(readable_, {})) {
    if (Entry* entry = find(token); entry != nullptr) entry->on_readable();
    if (Entry* entry = find(token); entry != nullptr && !entry->armed && !entry->paused) arm(*entry);
  }
  if (std::exchange(sweep_, false)) std::erase_if(entries_, [](const auto& entry) { return entry->cancelled; });
  return {};
}

}  // namespace

Result<std::unique_ptr<EventLoop>> EventLoop::create_uring() noexcept {
  auto loop = std::make_unique<UringLoop>();
  if (auto opened = loop->open(); !opened) return opened.error();
  return std::unique_ptr<EventLoop>(std::move(loop));
}

}  // namespace lb
