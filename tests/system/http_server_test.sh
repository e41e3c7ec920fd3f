#!/bin/sh
# SPDX-License-Identifier: MIT
# http_server_test.sh HTTP_SERVER POLICY: the example under one policy, driven by curl and wrk: right answers, no socket
# error, requests in hand finished on SIGTERM, exit code 0, nothing left behind.
set -eu
http_server=$1 policy=$2
workers=4

fail() {
  echo "$policy: $*"
  exit 1
}

for tool in curl wrk setsid; do
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

# The processes of the server's session: field 6 of stat, counted behind the name, which may have spaces.
left_behind() {
  for stat in /proc/[0-9]*/stat; do
    sed -n "s/^\([0-9]*\) (\(.*\)) \([A-Z]\) [0-9]* [0-9]* $session .*/\1 \2 \3/p" "$stat" 2>/dev/null || true
  done
}

# status WANTED CURL_ARGUMENT...
status() {
  wanted=$1
  shift
  got=$(curl -s -o /dev/null -w '%{http_code}' --max-time 10 "$@") || fail "curl $*: exit code $?"
  [ "$got" = "$wanted" ] || fail "curl $*: answered $got, not $wanted"
}

# load WRK_ARGUMENT...: no socket error and no answer other than 200.
load() {
  wrk -t1 -d1 "$@" "$url/" >"$out/wrk" || fail "wrk $*: exit code $?"
  if grep -E 'Socket errors|Non-2xx' "$out/wrk"; then fail "wrk $*"; fi
  grep -Eq '^ *[1-9][0-9]* requests in' "$out/wrk" || fail "wrk $*: no request was answered"
}

mkfifo "$out/ready"
LB_SCHED_POLICY=$policy setsid "$http_server" tcp://127.0.0.1:0 --workers "$workers" >"$out/ready" 2>"$out/errors" &
session=$!
read -r line <"$out/ready" || fail "no line on standard output: $(cat "$out/errors")"
case $line in
  "http_server: listening on tcp://127.0.0.1:"*", $workers workers, policy "*) ;;
  *) fail "said: $line" ;;
esac
port=${line#*127.0.0.1:}
url=http://127.0.0.1:${port%%,*}

worker=$(curl -si --max-time 10 "$url/" | tr -d '\r' | sed -n 's/^X-Worker: //p')
case $worker in
  [1-$workers]) ;;
  *) fail "X-Worker is '$worker'" ;;
esac
status 200 "$url/" --next -s -o /dev/null "$url/sleep/1000"
status 200 --http1.0 "$url/spin/1000"
status 200 --head "$url/"
status 400 "$url/sleep/10000001"
status 404 "$url/nowhere"
status 405 -X POST -d body "$url/"
status 431 -H "X-Long: $(head -c 9000 /dev/zero | tr '\0' a)" "$url/"

load -c64 -H 'Connection: close'
load -c64

# A request that has been sent when SIGTERM comes is answered, and told that the connection ends.
curl -siv --max-time 10 "$url/sleep/500000" >"$out/answer" 2>"$out/trace" &
asked=$!
until grep -qs '^> GET' "$out/trace"; do
  kill -0 "$asked" || fail "curl: $(cat "$out/trace")"
  sleep 0.01
done
kill -TERM "$session"
wait "$asked" || fail "the request in hand at SIGTERM: curl's exit code $?"
grep -q '^HTTP/1.1 200' "$out/answer" || fail "the request in hand at SIGTERM: $(cat "$out/answer")"
grep -qi '^Connection: close' "$out/answer" || fail 'the last answer lacks Connection: close'
code=0
wait "$session" || code=$?
[ "$code" = 0 ] || fail "exit code $code after SIGTERM: $(cat "$out/errors")"
left=$(left_behind)
[ -z "$left" ] || fail "left behind: $left"
[ ! -s "$out/errors" ] || fail "standard error: $(cat "$out/errors")"
echo "$line"
