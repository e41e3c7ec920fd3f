// SPDX-License-Identifier: MIT
#include "record.hh"

#include <algorithm>

namespace lbbench {

void Recorder::begun(size_t index, uint64_t intended_ns, uint64_t now_ns) {
  records_[index] = {.intended_ns = intended_ns,
                     .latency_ns = 0,
                     .late_ns = now_ns > intended_ns ? now_ns - intended_ns : 0,
                     .service_error_ns = 0,
                     .worker = 0,
                     .outcome = Outcome::pending,
                     .answer_bytes = 0};
}

void Recorder::answered(size_t index, uint64_t now_ns, uint32_t worker, int64_t service_error_ns, uint64_t answer_bytes) {
  Record& record = records_[index];
  record.latency_ns = now_ns - record.intended_ns;
  record.worker = worker;
  record.service_error_ns = service_error_ns;
  record.answer_bytes = static_cast<uint16_t>(std::min<uint64_t>(answer_bytes, UINT16_MAX));
  record.outcome = Outcome::answered;
}

void Recorder::lost(size_t index, uint64_t now_ns, Outcome why) {
  Record& record = records_[index];
  record.latency_ns = now_ns - record.intended_ns;
  record.outcome = why;
}

}  // namespace lbbench
