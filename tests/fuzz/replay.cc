// SPDX-License-Identifier: MIT
// Runs a fuzz target without a fuzzer: replay RUNS [FILE...]. First the files, then RUNS inputs that are the files changed here and
// there, or chance, always the same ones. For builds whose compiler has no libFuzzer, and for the tests.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size);

namespace {

void run(const std::string& input) { LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size()); }

std::string invent(std::mt19937& chance, const std::vector<std::string>& corpus) {
  std::string input;
  if (!corpus.empty() && chance() % 4 != 0) input = corpus[chance() % corpus.size()];
  if (input.empty()) input.resize(chance() % 400);
  for (unsigned changes = chance() % 16; changes > 0 && !input.empty(); --changes) {
    const auto value = static_cast<char>(chance() % 2 == 0 ? chance() % 8 : chance());
    input[chance() % input.size()] = value;
  }
  if (chance() % 8 == 0) input.resize(chance() % (input.size() + 1));
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s RUNS [FILE...]\n", argv[0]);
    return 2;
  }
  std::vector<std::string> corpus;
  for (int i = 2; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    if (!file) {
      std::fprintf(stderr, "%s: cannot be read\n", argv[i]);
      return 2;
    }
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    run(corpus.back());
  }
  std::mt19937 chance(1);
  const long runs = std::strtol(argv[1], nullptr, 10);
  for (long i = 0; i < runs; ++i) run(invent(chance, corpus));
  std::printf("%zu files, %ld inventions: no finding\n", corpus.size(), runs);
  return 0;
}
