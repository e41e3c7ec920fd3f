// SPDX-License-Identifier: MIT
#include "top.hh"

#define NCURSES_NOMACROS 1  // functions alone: erase, timeout and scroll are our words too
#include <ncurses.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "top_view.hh"

namespace lbctl {
namespace {

using Clock = std::chrono::steady_clock;

volatile std::sig_atomic_t signal_caught = 0;

/// The terminal in ncurses's hands, for as long as this lives.
class Screen {
 public:
  Screen() : terminal_(::newterm(nullptr, stdout, stdin)) {
    if (terminal_ == nullptr) {
      const char* name = std::getenv("TERM");
      throw Failure(kWrongUse, std::string("top cannot use this terminal: TERM is ") + (name != nullptr ? name : "not set"));
    }
    ::cbreak();
    ::noecho();
    ::keypad(::stdscr, TRUE);
    ::curs_set(0);
    // After ncurses, whose own handlers would leave by exit(3).
    struct sigaction action {};
    action.sa_handler = [](int signal) { signal_caught = signal; };
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) ::sigaction(signal, &action, nullptr);
  }
  ~Screen() {
    ::endwin();
    ::delscreen(terminal_);
  }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  static unsigned columns() { return static_cast<unsigned>(std::max(COLS, 1)); }
  static int rows() { return std::max(LINES, 1); }

  void show(const std::string& head, const std::vector<Line>& lines, int first) {
    ::erase();
    put(0, {head, Line::Look::head});
    for (int row = 2; row < rows() && static_cast<size_t>(first + row - 2) < lines.size(); ++row)
      put(row, lines[static_cast<size_t>(first + row - 2)]);
    ::refresh();
  }

 private:
  static void put(int row, const Line& line) {
    const attr_t look = line.look == Line::Look::head     ? A_BOLD
                        : line.look == Line::Look::titles ? A_REVERSE
                        : line.look == Line::Look::alarm  ? A_STANDOUT
                                                          : A_NORMAL;
    ::attron(static_cast<int>(look));
    ::mvaddnstr(row, 0, line.text.c_str(), COLS);
    ::attroff(static_cast<int>(look));
  }

  SCREEN* terminal_;
};

/// What is shown, and the snapshot before it, for the rates.
class View {
 public:
  View(const Primary& primary, double every_s) : primary_(primary), every_s_(every_s), before_(ask()), now_(before_) {}

  void look() {
    try {
      auto next = ask();
      before_ = std::exchange(now_, std::move(next));
      trouble_.clear();
    } catch (const std::exception& failure) {
      trouble_ = failure.what();
    }
  }
  void scroll(int lines) { first_ = std::max(0, first_ + lines); }
  void draw(Screen& screen) {
    const auto columns = Screen::columns();
    const auto lines = top_lines(now_, before_, columns);
    first_ = std::clamp(first_, 0, std::max(0, static_cast<int>(lines.size()) - (Screen::rows() - 2)));
    screen.show(trouble_.empty() ? top_head(now_, every_s_, columns) : trouble_, lines, first_);
  }

 private:
  Snapshot ask() const { return Snapshot::parse(primary_.ask("status")); }

  const Primary& primary_;
  double every_s_;
  Snapshot before_;
  Snapshot now_;
  std::string trouble_;  // why the last look failed
  int first_ = 0;        // line at the top
};

}  // namespace

int show_top(const Primary& primary, double every_s) {
  if (::isatty(STDOUT_FILENO) == 0 || ::isatty(STDIN_FILENO) == 0)
    throw Failure(kWrongUse, "top wants a terminal; without one, take status or metrics");
  View view(primary, every_s);
  Screen screen;
  const auto pause = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(every_s));
  auto next = Clock::now() + pause;
  for (view.draw(screen); signal_caught == 0; view.draw(screen)) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(next - Clock::now());
    ::timeout(static_cast<int>(std::max<int64_t>(left.count(), 0)));
    switch (::getch()) {
      case 'q':
      case 'Q':
        return kDone;
      case KEY_DOWN:
        view.scroll(1);
        break;
      case KEY_UP:
        view.scroll(-1);
        break;
      case KEY_NPAGE:
        view.scroll(Screen::rows() - 3);
        break;
      case KEY_PPAGE:
        view.scroll(3 - Screen::rows());
        break;
      default:  // the time is up, a signal, KEY_RESIZE, or a key that means nothing
        break;
    }
    if (Clock::now() < next) continue;
    view.look();
    next = Clock::now() + pause;
  }
  return 128 + signal_caught;
}

}  // namespace lbctl
