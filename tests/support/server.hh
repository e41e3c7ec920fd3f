// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <functional>
#include <lb/lb.hh>
#include <string>

#include "board.hh"
#include "program.hh"
#include "shared.hh"

/// Worker functions: they say hello, repeat the client's number and close (wire.hh), and note it on the board.
namespace lb::test {

/// The ways to take connections from a Listener.
enum class Style {
  blocking,  ///< accept(): one connection at a time, so a client that does not ask keeps the worker busy
  watch,     ///< an epoll loop with watch(): any number at a time
  pollable,  ///< an epoll loop with fd(): the same
};
const char* name_of(Style style) noexcept;

inline constexpr const char* kAnyPort = "tcp://127.0.0.1:0";

/// A worker that listens on `endpoint` and answers until it is drained.
WorkerFunction answering(Style style, Board& board, std::string endpoint = kAnyPort, ListenOptions options = {});

/// The same as a program; its argument is `answering_argument`.
extern const Program kAnswering;
std::string answering_argument(Style style, const std::string& endpoint = kAnyPort);

/// The same, for a listener that is there already. Returns the worker's exit code.
int answer_all(Worker& worker, Listener& listener, Style style, Board& board);

/// The same for two listeners at once, in an epoll loop.
int answer_both(Worker& worker, std::array<Listener, 2> listeners, Board& board);
/// Answers one connection, waiting for its number. False if the client left before it asked.
bool answer_one(Worker& worker, const Connection& connection, Board& board);
bool say_hello(const Worker& worker, int fd) noexcept;

/// Says that it is ready to be handed connections, as a waiting worker does, and takes none until the gate opens.
void pretend_to_wait(Listener& listener, const Gate& gate);

}  // namespace lb::test
