// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include <lb/result.hh>
#include <lb/unique_fd.hh>

namespace lb {

/// The primary's loop: readiness of descriptors, and connections accepted from listening sockets. One thread.
/// io_uring where the kernel permits it, else epoll + accept4. Callbacks may watch and cancel, also themselves.
class EventLoop {
 public:
  using Token = uint64_t;
  using OnReadable = std::function<void()>;
  /// A connection (non-blocking, close-on-exec), or a back-off or fatal error, after which accepting is paused.
  using OnAccept = std::function<void(Result<UniqueFd>)>;

  /// io_uring: the ring, with multishot accept (5.19); ENOSYS, EPERM or EINVAL tell why it is not to be had.
  static Result<std::unique_ptr<EventLoop>> create_uring() noexcept;
  static Result<std::unique_ptr<EventLoop>> create_epoll() noexcept;

  virtual ~EventLoop() = default;
  virtual const char* name() const noexcept = 0;
  /// Readable when `turn` has something to do, provided that `flush` came after the last turn.
  virtual int fd() noexcept = 0;
  /// Around fork(2), so that no accepted connection is in the descriptor table and in nobody's hands: its copy would live on in
  /// the child. Then in the child, before the loop is destroyed: the ring is still the parent's.
  virtual void before_fork() noexcept {}
  virtual void after_fork() noexcept {}
  void abandon() noexcept { abandoned_ = true; }
  /// Tells the kernel all that it is to watch, without waiting.
  virtual void flush() noexcept {}

  /// Calls back in every turn in which `fd` is readable or hung up, until cancelled. Borrows the fd.
  virtual Result<Token> watch(int fd, OnReadable on_readable) noexcept = 0;
  /// Accepts from `listening_fd` until paused or cancelled. Borrows the fd.
  virtual Result<Token> accept(int listening_fd, OnAccept on_accept) noexcept = 0;
  /// Stops watching; or accepting, after delivering what is already accepted: the kernel's queue holds the rest.
  virtual void pause(Token token) noexcept = 0;
  /// An error leaves it paused.
  virtual Result<void> resume(Token token) noexcept = 0;
  /// No callback after this; the kernel lets go of the fd, so that it may be closed. An accept is paused first.
  virtual void cancel(Token token) noexcept = 0;

  /// How the loop may sleep.
  enum class Sleep {
    no,       ///< there is work
    briefly,  ///< until `bell` is readable, for 0.1 ms at most: connections arrive so fast that it pays to meet several at once
    yes,      ///< until something happens
  };
  /// Asked before the loop would sleep.
  std::function<Sleep()> may_sleep;
  int bell = -1;
  /// Called when it no longer sleeps, before any callback.
  std::function<void()> woke;

  /// Waits at most `timeout_ms` (negative: for ever), then calls back for all that is ready.
  virtual Result<void> turn(int timeout_ms) noexcept = 0;

 protected:
  Sleep ask_to_sleep(int timeout_ms) const { return timeout_ms == 0 ? Sleep::no : may_sleep ? may_sleep() : Sleep::yes; }
  /// True: that was the sleep.
  bool nap(Sleep sleep) const noexcept;
  void tell_awake() const {
    if (woke) woke();
  }

  bool abandoned_ = false;  // this is a child; what the kernel holds is its parent's
};

}  // namespace lb
