// SPDX-License-Identifier: MIT
#include "program.hh"

#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <map>

namespace lb::test {
namespace {

std::map<std::string, Program::Body>& programs() {
  static std::map<std::string, Program::Body> all;
  return all;
}

std::map<std::string, PrimaryProgram::Body>& primaries() {
  static std::map<std::string, PrimaryProgram::Body> all;
  return all;
}

constexpr const char* kPrimary = "primary";
constexpr int kUnusable = 71;  // an exit code that no test's worker gives

}  // namespace

Program::Program(const char* name, Body body) : name_(name), body_(body) { programs()[name] = body; }

WorkerFunction Program::function(Board& board, const std::string& argument) const {
  return [body = body_, &board, argument](Worker& worker) { return body(worker, board, argument); };
}

Command Program::command(const Shared<Board>& board, const std::string& argument) const {
  Command command;
  command.args = {name_, argument};
  command.stdio[0] = board.fd();
  return command;
}

PrimaryProgram::PrimaryProgram(const char* name, Body body) : name_(name) { primaries()[name] = body; }

std::vector<std::string> PrimaryProgram::argv(const std::string& argument) const {
  return {"/proc/self/exe", kPrimary, name_, argument};
}

bool is_primary(int argc, char** argv) { return argc == 4 && std::strcmp(argv[1], kPrimary) == 0; }

int run_primary(char** argv) { return primaries().at(argv[2])(Shared<Board>::join(STDIN_FILENO), argv[3]); }

int run_program(int argc, char** argv) {
  const auto found = argc == 3 ? programs().find(argv[1]) : programs().end();
  auto worker = Worker::from_environment();
  if (found == programs().end() || !worker) {
    std::fprintf(stderr, "no worker: %s\n", worker ? "unknown program" : worker.error().message().c_str());
    return kUnusable;
  }
  return found->second(*worker, Shared<Board>::join(STDIN_FILENO), argv[2]);
}

}  // namespace lb::test
