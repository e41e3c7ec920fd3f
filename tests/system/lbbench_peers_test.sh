#!/bin/sh
# SPDX-License-Identifier: MIT
# lbbench_peers_test.sh LBBENCH: liblb and nginx in one run over HTTP: both answer, nothing is lost, the version is recorded, CPU and
# spread of all workers are seen, and nothing is left, neither after the run nor when it is killed in the middle.
set -eu
lbbench=$1
PATH=$PATH:/usr/sbin:/sbin

fail() {
  echo "$*"
  exit 1
}

for tool in nginx python3 setsid; do
  if ! command -v "$tool" >/dev/null; then
    [ "${LB_REQUIRE_PRIVILEGED:-}" = 1 ] && fail "$tool is not installed, and LB_REQUIRE_PRIVILEGED=1"
    echo "$tool is not installed"
    exit 77
  fi
done

TMPDIR=$(mktemp -d)
export TMPDIR
session=
cleanup() {
  [ -z "$session" ] || kill -KILL $(in_session | cut -d' ' -f1) 2>/dev/null || true
  rm -rf "$TMPDIR"
}
trap cleanup EXIT

# The processes of lbbench's session that live: field 6 of stat, counted behind the name, which may have spaces.
in_session() {
  for stat in /proc/[0-9]*/stat; do
    sed -n "s/^\([0-9]*\) (\(.*\)) [^Z] [0-9]* [0-9]* $session .*/\1 \2/p" "$stat" 2>/dev/null || true
  done
}

# start LBBENCH_ARGUMENT...: in a session of its own.
start() {
  setsid "$lbbench" run --policy round-robin --peers nginx --scenario connect --workers 2 "$@" >"$TMPDIR/table" 2>&1 &
  session=$!
}

start --duration 0.2 --json "$TMPDIR/json"
wait "$session" || fail "exit code $?: $(cat "$TMPDIR/table")"
python3 - "$TMPDIR/json" <<'PYTHON' || fail "$(cat "$TMPDIR/json")"
import json
import sys

ours, nginx = json.load(open(sys.argv[1]))["results"]
for run, name in (ours, "round-robin"), (nginx, "nginx"):
    assert run["policy"] == name, name
    assert run["completed"] > 0 and sum(run["lost"].values()) == 0, name
    assert len(run["share"]["per_worker"]) == 2 and sum(run["share"]["per_worker"]) == run["completed"], name
    assert run["cpu_us_per_connection"]["workers"] > 0, name
    assert 50 < run["extra"]["http"]["answer_bytes"] < 500, name
assert nginx["extra"]["peer_version"].startswith("nginx/1."), "version"
assert "peer_version" not in ours["extra"], "ours"
PYTHON
grep -q '^nginx is nginx/1' "$TMPDIR/table" || fail "no version in the table: $(cat "$TMPDIR/table")"
left=$(in_session)
[ -z "$left" ] || fail "left after the run: $left"

# Killed with nginx at work.
start --duration 0.5 --repeat 100
until in_session | grep -q nginx; do
  kill -0 "$session" || fail "ended: $(cat "$TMPDIR/table")"
  sleep 0.02
done
kill -KILL "$session"
wait "$session" || true
tries=0
while left=$(in_session) && [ -n "$left" ]; do
  tries=$((tries + 1))
  [ "$tries" -lt 500 ] || fail "left after SIGKILL: $left"
  sleep 0.02
done
session=
[ -z "$(ls -d "$TMPDIR"/lbbench-* 2>/dev/null)" ] || fail "its directory is left"
