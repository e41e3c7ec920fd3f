#!/bin/sh
# SPDX-License-Identifier: MIT
# node_cluster_test.sh NODE_CLUSTER KIND: Node.js's first example, with one kind of worker: every worker listens on one port, 50 clients
# get their answer, SIGTERM ends it with exit code 0 and nothing left behind.
set -eu
node_cluster=$1 kind=$2

fail() {
  echo "$kind: $*"
  exit 1
}

for tool in curl setsid; do
  if ! command -v "$tool" >/dev/null; then
    [ "${LB_REQUIRE_PRIVILEGED:-}" = 1 ] && fail "$tool is not installed, and LB_REQUIRE_PRIVILEGED=1"
    echo "$tool is not installed"
    exit 77
  fi
done

out=$(mktemp -d)
session=
cleanup() {
  [ -z "$session" ] || kill -KILL -- "-$session" 2>/dev/null || true
  rm -rf "$out"
}
trap cleanup EXIT

# The processes of the program's session: field 6 of stat, counted behind the name, which may have spaces.
running() {
  for stat in /proc/[0-9]*/stat; do
    sed -n "s/^\([0-9]*\) (\(.*\)) \([A-Z]\) [0-9]* [0-9]* $session .*/\1 \2 \3/p" "$stat" 2>/dev/null || true
  done
}

mkfifo "$out/ready"
setsid "$node_cluster" "$kind" tcp://127.0.0.1:0 >"$out/ready" 2>"$out/errors" &
session=$!
exec 3<"$out/ready"
workers=$(nproc)
ports=
i=0
while [ "$i" -lt "$workers" ]; do
  read -r line <&3 || fail "only $i of $workers workers listen: $(cat "$out/errors")"
  port=${line##*:}
  case " $ports " in
    "  " | *" $port "*) ports=$port ;;
    *) fail "two ports: $ports and $port" ;;
  esac
  i=$((i + 1))
done
case $kind in
  thread) expected=1 ;;
  *) expected=$((workers + 1)) ;;
esac
[ "$(running | wc -l)" = "$expected" ] || fail "not $expected processes: $(running)"

i=0
while [ "$i" -lt 50 ]; do
  answer=$(curl -s --max-time 10 "http://127.0.0.1:$port/") || fail "curl: exit code $?"
  [ "$answer" = 'hello world' ] || fail "answered: $answer"
  i=$((i + 1))
done

kill -TERM "$session"
code=0
wait "$session" || code=$?
[ "$code" = 0 ] || fail "exit code $code after SIGTERM: $(cat "$out/errors")"
left=$(running)
[ -z "$left" ] || fail "left behind: $left"
[ ! -s "$out/errors" ] || fail "standard error: $(cat "$out/errors")"
echo "$line"
