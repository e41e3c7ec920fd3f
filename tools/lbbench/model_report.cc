// SPDX-License-Identifier: MIT
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "model.hh"
#include "scenario.hh"
#include "table.hh"

namespace lbbench {
namespace {

std::string inputs(const ModelCosts& costs) {
  std::string text = "Rests on, per connection:\n";
  for (const auto* input : costs.all())
    text += wrap(fmt::format("- {} {:.3g} {} ({}: {})", input->name, input->value, input->unit,
                             input->measured ? "measured" : "assumed", input->source),
                 "    ");
  return text;
}

std::string thousands(double per_s) { return per_s < 10'000 ? fmt::format("{:.0f}", per_s) : fmt::format("{:.0f}k", per_s / 1e3); }

/// Cores double up to those asked for.
std::string saturation_table(const ModelOptions& options, const ModelCosts& costs, double service_us) {
  std::vector<Column> columns{{"saturates at, conn/s"}};
  std::vector<unsigned> sizes;
  for (unsigned cores = options.cores; cores >= 1 && sizes.size() < 5; cores /= 2) sizes.insert(sizes.begin(), cores);
  for (const unsigned cores : sizes) columns.push_back({fmt::format("{} cores", cores)});
  columns.push_back({"limit at the last"});
  Table table(columns);
  for (size_t i = 0; i < model_backends(costs, 1).size(); ++i) {
    std::vector<Cell> row{{model_backends(costs, 1)[i].policy}};
    std::string limit;
    for (const unsigned cores : sizes) {
      const auto backend = model_backends(costs, cores)[i];
      const double saturation = saturation_per_s(backend, cores, service_us);
      const bool serial = backend.serial_us > 0 && saturation >= 1e6 / backend.serial_us * (1 - 1e-9);
      limit = serial ? fmt::format("{} (from {:.0f} cores on)", backend.limit,
                                   std::ceil((service_us + backend.parallel_us + backend.serial_us) / backend.serial_us))
                     : "all cores busy";
      row.push_back({thousands(saturation)});
    }
    row.push_back({limit});
    table.add(row);
  }
  return table.to_string();
}

std::string latency_table(const ModelOptions& options, const Scenario& scenario, const ModelCosts& costs, double rate_per_s) {
  Table table({{fmt::format("at {} conn/s, ms", thousands(rate_per_s))}, {"p50"}, {"p90"}, {"p99"}, {"p99.9"}, {"busy"}});
  for (const auto& backend : model_backends(costs, options.cores)) {
    const double busy = rate_per_s / saturation_per_s(backend, options.cores, 1e3 * scenario.mean_service_ms());
    const auto latency = predict(backend, scenario, options.cores, rate_per_s, 1);
    const auto cell = [&](double Latency::*member) { return Cell{latency ? fmt::format("{:.3g}", (*latency).*member) : "-"}; };
    table.add({{backend.policy},
               cell(&Latency::p50),
               cell(&Latency::p90),
               cell(&Latency::p99),
               cell(&Latency::p99_9),
               {latency ? fmt::format("{:.0f} %", 100 * busy) : "cannot follow"}});
  }
  return table.to_string();
}

std::string check_table(const std::vector<ModelCheck>& checks, const std::string& path) {
  if (checks.empty()) return fmt::format("Not checked: {} has nothing that the model can predict.\n", path);
  Table table({{"checked against " + path}, {"policy"}, {"figure"}, {"predicted"}, {"measured"}, {"error"}});
  double worst = 0;
  for (const auto& check : checks) {
    const double error = check.measured > 0 ? check.predicted / check.measured - 1 : 0;
    worst = std::max(worst, std::abs(error));
    table.add({{check.scenario},
               {check.policy},
               {check.figure},
               {in_short(check.predicted)},
               {in_short(check.measured)},
               {fmt::format("{:+.0f} %", 100 * error)}});
  }
  return table.to_string() + fmt::format("The largest error is {:.0f} %.\n", 100 * worst);
}

}  // namespace

std::string model_report(const ModelOptions& options, const ModelCosts& costs, const Document* document) {
  Scenario scenario = *find_scenario(options.scenario);
  if (options.service_us) scenario.services = {{1.0, Law::exponential, *options.service_us / 1e3}};
  const double service_us = 1e3 * scenario.mean_service_ms();
  double best = 0;
  for (const auto& backend : model_backends(costs, options.cores))
    best = std::max(best, saturation_per_s(backend, options.cores, service_us));
  const double rate_per_s = options.rate_per_s.value_or(0.7 * best);
  std::string text = wrap(fmt::format("{} cores, each a worker; {} us of service a connection ({}).", options.cores,
                                      in_short(service_us), options.service_us ? "exponential" : "as in " + options.scenario),
                          "  ");
  text += inputs(costs) + '\n' + saturation_table(options, costs, service_us) + '\n';
  text += latency_table(options, scenario, costs, rate_per_s) + '\n';
  if (document != nullptr) text += check_table(check_model(*document, costs), options.file) + '\n';
  return text +
         wrap(
             "A model: it has no network card, no memory bandwidth and no second socket. reuseport is taken to do as well as one "
             "queue, which its idle workers' stealing brings near.",
             "  ");
}

}  // namespace lbbench
