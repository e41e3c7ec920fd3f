#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Counts what `meson test` ran: each GoogleTest case, and each other Meson test as one.

    count_tests.py TESTLOG.json XML_DIR

Each run of a GoogleTest program leaves its XML in XML_DIR/<process id>/<program>/: the wrapper of tools/dev sees to
that. Meson itself names another file for tests with `protocol: 'gtest'`, relative to the build directory. A run that fails without a failed case (a crash, a timeout, a sanitizer's report at exit) counts as one failure.
Writes "PASSED FAILED SKIPPED" on standard output, and what failed or was skipped, and why, on standard error.
"""

import collections
import json
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree

LISTED_MAX = 40
MESON_REPORT = '--gtest_output=xml:'


class Tally:
    def __init__(self):
        self.passed = 0
        self.failed = []
        self.skipped = []

    def add_case(self, program, case):
        name = f'{program}: {case.get("classname")}.{case.get("name")}'
        if case.find('failure') is not None:
            self.failed.append(name)
        elif (skip := case.find('skipped')) is not None:
            # The message begins with the source position, on a line of its own.
            lines = [line.strip() for line in (skip.get('message') or skip.text or '').splitlines()]
            reason = ' '.join(line for line in lines if line and not re.match(r'\S+:\d+$', line))
            self.skipped.append(f'{name}: {reason}' if reason else name)
        elif case.get('status') == 'run':
            self.passed += 1

    def add_run(self, run):
        if run['result'] in ('OK', 'EXPECTEDFAIL'):
            self.passed += 1
        elif run['result'] in ('SKIP', 'IGNORED'):
            lines = (run.get('stdout') or '').strip().splitlines()
            self.skipped.append(': '.join([run['name']] + lines[-1:]))
        else:
            self.failed.append(f'{run["name"]}: {run["result"]}')


def program_of(run):
    """The test program's file name; the wrapper stands before it and ends with `--`."""
    command = run['command']
    return pathlib.Path(command[command.index('--') + 1] if '--' in command else command[0]).name


def read_reports(log, xml_dir, runs):
    """Program name -> its XML reports."""
    paths = [(path.parent.name, path) for path in sorted(xml_dir.rglob('*.xml'))]
    for program, program_runs in runs.items():
        for argument in (argument for run in program_runs for argument in run['command']):
            if argument.startswith(MESON_REPORT):
                paths.append((program, log.parent.parent / argument.removeprefix(MESON_REPORT)))
    reports = collections.defaultdict(list)
    for program, path in paths:
        try:
            reports[program].append(ElementTree.parse(path))
        except (FileNotFoundError, ElementTree.ParseError):
            pass  # the program died before or while it wrote: its run has failed and counts below
    return reports


def count(log, xml_dir):
    runs = collections.defaultdict(list)
    for line in log.read_text().splitlines():
        run = json.loads(line)
        runs[program_of(run)].append(run)
    reports = read_reports(log, xml_dir, runs)
    tally = Tally()
    for program, program_runs in runs.items():
        if program not in reports:
            for run in program_runs:
                tally.add_run(run)
            continue
        explained = 0
        for report in reports[program]:
            failed_before = len(tally.failed)
            for case in report.iter('testcase'):
                tally.add_case(program, case)
            explained += len(tally.failed) > failed_before
        bad = [run for run in program_runs if run['result'] not in ('OK', 'SKIP', 'EXPECTEDFAIL', 'IGNORED')]
        if len(bad) > explained:
            tally.failed += [f'{run["name"]}: {run["result"]}' for run in bad[explained:]]
    return tally


def show(title, names):
    for name in names[:LISTED_MAX]:
        print(f'  {title} {name}', file=sys.stderr)
    if len(names) > LISTED_MAX:
        print(f'  {title} ... and {len(names) - LISTED_MAX} more', file=sys.stderr)


def main():
    tally = count(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]))
    show('skipped', tally.skipped)
    show('FAILED ', tally.failed)
    print(tally.passed, len(tally.failed), len(tally.skipped))


if __name__ == '__main__':
    main()
