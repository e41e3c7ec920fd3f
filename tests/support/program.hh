// SPDX-License-Identifier: MIT
#pragma once

#include <lb/lb.hh>
#include <string>

#include "board.hh"
#include "shared.hh"

namespace lb::test {

/// What a worker of any kind runs. It has a name, by which a worker that is a program, this one over again, finds it.
/// For objects of static storage duration.
class Program {
 public:
  using Body = int (*)(Worker& worker, Board& board, const std::string& argument);

  Program(const char* name, Body body);
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  WorkerFunction function(Board& board, const std::string& argument = "") const;
  Command command(const Shared<Board>& board, const std::string& argument = "") const;

 private:
  const char* name_;
  Body body_;
};

/// The main function of a worker that is a program.
int run_program(int argc, char** argv);

}  // namespace lb::test
