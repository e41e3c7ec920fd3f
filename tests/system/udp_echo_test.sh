#!/bin/bash
# SPDX-License-Identifier: MIT
# udp_echo_test.sh UDP_ECHO POLICY: the example answers each of a few clients, and leaves with 0 on SIGTERM.
set -eu
udp_echo=$1 policy=$2
out=$(mktemp -d)
server=
cleanup() {
  [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
  rm -rf "$out"
}
trap cleanup EXIT

mkfifo "$out/said"
LB_SCHED_POLICY=$policy "$udp_echo" udp://127.0.0.1:0 2 >"$out/said" &
server=$!
exec 4<"$out/said"
read -r first <&4
read -r second <&4
[ "${first##*: }" = "${second##*: }" ] || { echo "two addresses: $first, $second"; exit 1; }
port=${first##*:}
for client in 1 2 3 4 5; do
  exec 3<>"/dev/udp/127.0.0.1/$port"
  printf 'hello %s\n' "$client" >&3
  answer=$(timeout 20 dd bs=64 count=1 status=none <&3) || { echo "no answer to client $client"; exit 1; }  # read takes single bytes
  [ "$answer" = "hello $client" ] || { echo "answer: $answer"; exit 1; }
done
kill -TERM "$server"
wait "$server" || { echo "exit code $?"; exit 1; }
server=
