// SPDX-License-Identifier: MIT
#pragma once

#include <lb/lb.hh>
#include <string>
#include <vector>

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

/// A primary that is a program of its own, this one over again: so it can execute itself once more. Started with the board as its
/// standard input, and `argv` as its arguments. For objects of static storage duration.
class PrimaryProgram {
 public:
  using Body = int (*)(Board& board, const std::string& argument);

  PrimaryProgram(const char* name, Body body);
  PrimaryProgram(const PrimaryProgram&) = delete;
  PrimaryProgram& operator=(const PrimaryProgram&) = delete;

  std::vector<std::string> argv(const std::string& argument) const;

 private:
  const char* name_;
};

bool is_primary(int argc, char** argv);
/// The main function of such a primary.
int run_primary(char** argv);

}  // namespace lb::test
