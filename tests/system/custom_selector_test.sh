#!/bin/sh
# SPDX-License-Identifier: MIT
# custom_selector_test.sh CUSTOM_SELECTOR: each client address always meets the same worker, different ones meet different workers.
set -eu
custom_selector=$1 workers=4

if ! command -v curl >/dev/null; then
  echo "curl is not installed"
  [ "${LB_REQUIRE_PRIVILEGED:-}" = 1 ] && exit 1
  exit 77
fi

out=$(mktemp -d)
server=
cleanup() {
  [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
  rm -rf "$out"
}
trap cleanup EXIT

fail() {
  echo "$*"
  exit 1
}

mkfifo "$out/events"
"$custom_selector" tcp://127.0.0.1:0 "$workers" >"$out/events" &
server=$!
exec 3<"$out/events"
for _ in $(seq "$workers"); do
  read -r line <&3 || fail "it has ended before all workers listened"
  case $line in
    *", policy round-robin:custom") ;;
    *) fail "said: $line" ;;
  esac
done
port=${line#*127.0.0.1:} port=${port%%,*}

all=
for client in $(seq 2 17); do
  first=
  for _ in 1 2 3 4 5; do
    answer=$(curl -s --max-time 10 --interface "127.0.0.$client" "http://127.0.0.1:$port/") || fail "curl: exit code $?"
    [ "$answer" = "${first:=$answer}" ] || fail "127.0.0.$client met $first, then $answer"
  done
  all="$all$first
"
done
met=$(printf '%s' "$all" | sort -u | wc -l)
[ "$met" -ge 2 ] || fail "16 clients have all met the same worker"

kill -TERM "$server"
wait "$server" || fail "exit code $?"
server=
LB_SCHED_POLICY=reuseport:none "$custom_selector" tcp://127.0.0.1:0 2>/dev/null && fail "an unknown policy was accepted"
echo "16 clients, $met workers"
