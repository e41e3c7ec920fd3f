#!/bin/bash
# SPDX-License-Identifier: MIT
# lbbench_faults_test.sh LBBENCH: a little of each scenario that does harm, through the tool: it does what it says, accounts for every
# connection, and finds nothing lost.
set -eu
lbbench=$1
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# run WHAT COUNT ARGUMENT...: each of its results must have served connections and done WHAT, COUNT times (any number for 0).
run() {
  local what=$1 count=$2
  shift 2
  "$lbbench" run --workers 4 --seed 3 --json "$out/json" "$@" >"$out/text" 2>&1 || {
    echo "lbbench run $* left with $?"
    cat "$out/text"
    exit 1
  }
  python3 - "$out/json" "$what" "$count" <<'END' || { cat "$out/text"; exit 1; }
import json, sys
for run in json.load(open(sys.argv[1]))["results"]:
    faults = run["extra"]["faults"]
    done = faults["done"].get(sys.argv[2], 0)
    ends = run["completed"] + faults["left"] + faults["lost_with_worker"] + faults["lost_in_accept"] + sum(run["lost"].values())
    assert run["completed"] > 0 and done > 0 and done == (int(sys.argv[3]) or done), run
    assert faults["begun"] == ends and not faults["trouble"] and faults["processes_left"] == 0, run
END
}

policies=shared,reuseport,round-robin
run kills 5 --scenario crash --faults 5 --policy $policies --worker-model event-loop
run rolls 2 --scenario restart --faults 2 --policy $policies
run 'policy changes' 8 --scenario switch --faults 8 --policy round-robin
run 'scale steps' 3 --scenario scale-up --faults 3 --policy $policies
run upgrades 1 --scenario upgrade --faults 1 --policy $policies --worker-model event-loop
run kills 0 --chaos --duration 1.2 --policy reuseport --worker-model event-loop
