#!/bin/bash
# SPDX-License-Identifier: MIT
# lbctl_test.sh LBCTL ECHO: each of lbctl's commands against a running server, what it says to wrong use, and its exit codes.
set -eu
lbctl=$1 echo=$2
work=$(mktemp -d)
server=
exporter=
cleanup() {
  for process in $server $exporter; do kill -KILL "$process" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT

fail() {
  echo "$*"
  exit 1
}
# expect CODE TEXT ARGUMENT...: lbctl ends with CODE, and what it says has TEXT in it.
expect() {
  local code=$1 text=$2 got=0
  shift 2
  timeout 30 "$lbctl" "$@" >"$work/said" 2>&1 || got=$?
  [ "$got" = "$code" ] || fail "lbctl $*: exit code $got, expected $code: $(cat "$work/said")"
  grep -qF -- "$text" "$work/said" || fail "lbctl $*: no '$text' in: $(cat "$work/said")"
}
# soon COMMAND...: waits until it succeeds, at most for a minute.
soon() {
  for _ in $(seq 600); do
    "$@" >/dev/null 2>&1 && return 0
    sleep 0.1
  done
  fail "in vain for: $*"
}
workers_listen() {
  [ "$("$lbctl" status | grep -c ' listening ')" = "$1" ]
}
# workers_are ID...: they listen, and there are no others.
workers_are() {
  [ "$("$lbctl" status | awk '$3 == "listening" { printf "%s ", $1 } $3 == "draining" { printf "old " }')" = "$* " ]
}

# gone PID: nobody's child of ours any more, since the upgrade.
gone() {
  ! kill -0 "$1"
}

unset LB_ADMIN_SOCKET
expect 2 'LB_ADMIN_SOCKET' status
expect 2 'status' # no command: help lists them
expect 2 'status' frobnicate
expect 0 'drain' --help
expect 0 'lbctl ' --version
expect 3 'there is no socket' --socket "$work/none" status
expect 2 'absolute' --socket relative status
expect 2 'timeout' --timeout 0 status
python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])' "$work/dead"
expect 3 'is gone' --socket "$work/dead" status

# pretend TEXT: who listens at $work/pretended says TEXT to whoever asks first, and ends.
pretend() {
  rm -f "$work/pretended"
  python3 - "$work/pretended" "$1" <<'PRETEND' &
import os, socket, sys
path, text = sys.argv[1:]
listener = socket.socket(socket.AF_UNIX)
listener.bind(path + ".made")
listener.listen()
os.rename(path + ".made", path)
client = listener.accept()[0]
client.recv(4096)
client.sendall(text.encode())
PRETEND
  server=$!
  soon test -S "$work/pretended"
}
pretend ''
expect 3 'its own user and root alone' --socket "$work/pretended" --timeout 20 status
pretend '{"ok":true,'
expect 3 'in the middle of its answer' --socket "$work/pretended" --timeout 20 status
pretend $'hello\n'
expect 3 'no primary of liblb' --socket "$work/pretended" --timeout 20 status

export LB_ADMIN_SOCKET=$work/admin
"$echo" tcp://127.0.0.1:0 2 &
server=$!
soon workers_listen 2
address=$("$lbctl" status | grep -o '^tcp://.*')
port=${address##*:}
for word in one two three; do
  exec 3<>"/dev/tcp/127.0.0.1/$port"
  echo "$word" >&3
  read -r answer <&3
  [ "$answer" = "$word" ] || fail "answer: $answer"
  exec 3>&-
done

expect 0 "primary $server, " status
expect 0 "  policy " status
got=0
"$lbctl" status 2>"$work/said" >/dev/full || got=$?
[ "$got" = 1 ] && grep -q 'No space left' "$work/said" || fail "a full disk: exit code $got, $(cat "$work/said")"
"$lbctl" status --json >"$work/json"
python3 - "$work/json" "$server" "$address" <<'CHECK' || fail "status --json: $(cat "$work/json")"
import json, sys
status = json.load(open(sys.argv[1]))
assert status["primary"]["pid"] == int(sys.argv[2])
(endpoint,) = status["endpoints"]
assert endpoint["address"] == sys.argv[3] and endpoint["effective"] and endpoint["rung"]
assert sum(load["accepted"] for load in endpoint["workers"]) == 3
assert [worker["state"] for worker in status["workers"]] == ["listening"] * 2
CHECK

# Prometheus's format: each sample belongs to the metric whose HELP and TYPE stand before it; counters end in _total.
check_metrics() {
  awk -v endpoint="$address" '
    /^# HELP / { name = $3; if (seen[name]++) exit 1; next }
    /^# TYPE / { if ($3 != name || ($4 == "counter") != (name ~ /_total$/)) exit 1; next }
    { split($1, sample, "{"); if (sample[1] != name || $NF !~ /^[0-9.e+]+$/) exit 1; samples++ }
    /^liblb_worker_accepted_total/ { if (!index($0, "endpoint=\"" endpoint "\",worker=\"")) exit 1; accepted += $NF }
    END { exit !(samples > 10 && accepted == 3) }' "$1" || fail "metrics: $(cat "$1")"
}
"$lbctl" metrics >"$work/metrics"
check_metrics "$work/metrics"

"$lbctl" metrics --listen 127.0.0.1:0 2>"$work/where" &
exporter=$!
soon grep -q 'http://' "$work/where"
where=$(grep -o 'http://.*' "$work/where")
curl -sS --max-time 20 -D "$work/head" "$where" >"$work/metrics"
check_metrics "$work/metrics"
grep -qi '^content-type: text/plain; version=0.0.4' "$work/head" || fail "head: $(cat "$work/head")"
listen=${where#http://} listen=${listen%/metrics}
expect 1 'Address already in use' metrics --listen "$listen"
expect 2 'ADDRESS:PORT' metrics --listen nowhere
mkfifo "$work/says"
for _ in $(seq 20); do # told to end as soon as it says that it serves
  timeout --signal=KILL 30 "$lbctl" metrics --listen 127.0.0.1:0 2>"$work/says" &
  short=$!
  read -r _ <"$work/says"
  kill -TERM "$short"
  wait "$short" || fail "metrics --listen: exit code $? after SIGTERM at once"
done

expect 2 'WORKER' drain
expect 2 '"-1" is not a number' drain -- -1
expect 2 'deadline' drain 1 --deadline -3
expect 1 'no worker 77' drain 77
expect 0 'worker 1 drains' drain 1 --deadline 20
soon workers_listen 1
expect 1 'no worker 1' drain 1

expect 2 'parallel' roll --parallel 0
expect 0 'generation 2: 1 of 1 replaced' roll
workers_are 3 || fail "after a roll: $("$lbctl" status)"
"$lbctl" roll --no-wait --parallel 2 || fail "roll --no-wait: $?"
soon workers_are 4

expect 2 '"0" is not a number' weight 2 0
expect 2 'W is required' weight 2
expect 1 'no worker 77' weight 77 2
worker=$("$lbctl" status | awk '$3 == "listening" { print $1; exit }')
expect 0 "worker $worker has weight 3" weight "$worker" 3
"$lbctl" metrics | grep -qx "liblb_worker_weight{worker=\"$worker\"} 3" || fail "weight: $("$lbctl" metrics)"

expect 2 'N' scale
expect 2 '"0" is not a number' scale 0
expect 1 '' scale 60000
expect 0 '3 of 3 workers listen' scale 3
soon workers_listen 3
expect 0 '2 of 2 workers listen' scale 2
soon workers_listen 2

expect 2 'one of: auto' policy fastest
expect 2 'POLICY' policy
expect 1 "one of: $address" policy tcp://127.0.0.1:1 shared
expect 0 "$address shared" policy shared
expect 0 "$address round-robin:least-loaded" policy "$address" round-robin:least-loaded
expect 0 'policy round-robin:least-loaded' status

primaries=$server
expect 0 'has taken over' upgrade
server=$("$lbctl" status | sed -n 's/^primary \([0-9]*\),.*/\1/p')
[ "$server" != "$primaries" ] || fail "the primary is the same after an upgrade"
wait "$primaries" || fail "the old primary: exit code $?"
"$lbctl" status | grep -qF "$address" || fail "after an upgrade: $("$lbctl" status)"

kill -STOP "$server"
expect 3 'does not answer' --timeout 0.2 status
[ "$(curl -sS --max-time 20 -o "$work/said" -w '%{http_code}' "$where")" = 503 ] || fail "no 503 while the primary is stopped"
kill -CONT "$server"
soon "$lbctl" status

kill -TERM "$exporter"
wait "$exporter" || fail "exporter: exit code $?"
exporter=
kill -TERM "$server"
soon gone "$server"
server=
[ ! -e "$LB_ADMIN_SOCKET" ] || fail "the admin socket is left"
expect 3 'there is no socket' status
