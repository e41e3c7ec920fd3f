// SPDX-License-Identifier: MIT
// Compiled once for all system tests, most of which have it in common: half of their compile time. They include what they need all the same.
#include <gmock/gmock.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <random>
#include <thread>

#include "../contract.hh"
