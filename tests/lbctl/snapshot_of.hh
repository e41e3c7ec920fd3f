// SPDX-License-Identifier: MIT
#pragma once

#include <nlohmann/json.hpp>

#include "snapshot.hh"

namespace lbctl {

/// What a primary says of two workers on a TCP endpoint, of which the second is hung, and of one of them on a UDP endpoint.
inline nlohmann::json sample_answer() {
  return nlohmann::json::parse(R"({"lb":1,"ok":true,
    "primary":{"pid":100,"version":"0.1.0","now_ms":5000,"state":"serving"},
    "endpoints":[
      {"asked":"tcp://127.0.0.1:0","address":"tcp://127.0.0.1:80","requested":"auto","effective":"round-robin:cyclic",
       "rung":"epoll","reason":"io_uring_setup: \"no\\way\"","queued":7,"queue_age_ms":1500,"lost":3,"retried":4,"bad_picks":0,
       "stealing":true,"strangers":2,"reattached":5,"outcomes":{},
       "workers":[{"worker":1,"slot":0,"accepted":1000,"backlog":2,"picks":1002,"hung":false},
                  {"worker":2,"slot":1,"accepted":200,"backlog":0,"picks":200,"hung":true}]},
      {"asked":"udp://127.0.0.1:53","address":"udp://127.0.0.1:53","requested":"auto","effective":"reuseport:least-loaded",
       "rung":"eBPF, flows","reason":"","queued":4096,"queue_age_ms":0,"lost":0,"retried":0,"bad_picks":0,
       "outcomes":{"picked":40,"known":160,"stray":0},
       "workers":[{"worker":1,"slot":0,"accepted":200,"backlog":4096,"picks":40,"hung":false}]}],
    "workers":[{"id":1,"pid":101,"slot":0,"state":"listening","kind":"forked","in_flight":5,"accepted":1200,"connected":true},
               {"id":2,"pid":102,"slot":1,"state":"draining","kind":"forked","in_flight":1,"accepted":200,"connected":true,"weight":3,
                "reported":250},
               {"id":3,"pid":103,"slot":2,"state":"online","kind":"forked","in_flight":0,"accepted":0,"connected":true}]})");
}

inline Snapshot sample() { return Snapshot::parse(sample_answer()); }

}  // namespace lbctl
