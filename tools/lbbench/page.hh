// SPDX-License-Identifier: MIT
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "document.hh"

namespace lbbench {

/// The page without its figures; empty where it was not built (tools/lbbench/report/).
std::optional<std::string_view> page_template();

/// Why there is no page, for people.
std::string_view page_missing();

/// What the page draws, as JSON: figures over all repeats, curves ready to draw, sentences ready to read. The page itself computes nothing.
std::string page_data(const Document& document);

/// One self-contained page: no network, no other file. Needs page_template().
std::string html_report(const Document& document);

}  // namespace lbbench
