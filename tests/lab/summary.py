# SPDX-License-Identifier: GPL-2.0-or-later
"""Count what the tests recorded: python3 -m lab.summary [--units DIRECTORY] RUN...

DIRECTORY is searched for the .trs and .log files of automake's test driver, whose logs hold
cmocka's TAP output. A RUN is a directory that one run of tests left, on this machine or in a
guest: what lab.record wrote (tests.jsonl), the programs and how they ended (programs, NAME.log,
NAME.status), and of a guest whether its kernel stayed sound (tainted.before, tainted.after).

A test that was to run and did not, because something died, has failed. A test that was skipped in
one run and ran in another is not skipped. The last line printed is the sum; the exit status is 0
only if something ran everywhere and nothing failed.
"""

import argparse
import json
import pathlib
import re
import sys

PLAN = re.compile(r"^1\.\.(\d+)")
RESULT = re.compile(r"^(not )?ok\b(.*)")
DRIVER_RESULT = re.compile(r"^:global-test-result: *(\w+)", re.MULTILINE)
SKIP_STATUS = "77"
# Of what a failed program said, so many last lines are shown.
LINES = 12


class Count:
    def __init__(self, passed=0, failed=0, skipped=0):
        self.passed, self.failed, self.skipped = passed, failed, skipped

    def __add__(self, other):
        return Count(self.passed + other.passed, self.failed + other.failed,
                     self.skipped + other.skipped)

    def __str__(self):
        text = f"{self.passed} passed, {self.failed} failed"
        return text + (f", {self.skipped} skipped" if self.skipped else "")


def read(path):
    return path.read_text(errors="replace") if path.exists() else ""


def print_failed(what, said=""):
    print(f"FAILED: {what}")
    for line in said.splitlines()[-LINES:]:
        print(f"    {line[:200]}")


def count_tap(text):
    """A test that was planned and never reported, as after a crash, has failed.

    cmocka 1.1.5 says "not ok 1 # SKIP name" of a test that it skipped.
    """
    count, planned = Count(), 0
    for line in text.splitlines():
        if plan := PLAN.match(line):
            planned += int(plan[1])
        elif result := RESULT.match(line):
            if "# skip" in result[2].lower():
                count.skipped += 1
            elif result[1]:
                count.failed += 1
            else:
                count.passed += 1
    reported = count.passed + count.failed + count.skipped
    count.failed += max(0, planned - reported)
    return count


def count_program(text, result):
    """One program. It may fail as a whole although each of its tests passed (a leak)."""
    count = count_tap(text)
    if result not in ("PASS", "SKIP") and not count.failed:
        count.failed += 1
    elif result == "SKIP" and not count.skipped:
        count.skipped += 1
    elif result == "PASS" and not count.passed + count.skipped:
        count.passed += 1
    return count


def count_units(directory):
    """All programs of automake's test driver."""
    programs = sorted(directory.rglob("*.trs"))
    count = Count()
    for trs in programs:
        found, said = DRIVER_RESULT.search(trs.read_text()), read(trs.with_suffix(".log"))
        one = count_program(said, found[1] if found else "ERROR")
        if one.failed:
            print_failed(trs.with_suffix(""), said)
        count += one
    print(f"unit tests: {count} in {len(programs)} programs")
    return count


class Run:
    """What one run left in its directory."""

    def __init__(self, directory):
        self.path = pathlib.Path(directory)
        self.planned = set()
        self.tests = {}
        for line in read(self.path / "tests.jsonl").splitlines():
            record = json.loads(line)
            self.planned.update(record.get("planned", ()))
            if "test" in record:
                if self.tests.get(record["test"], {}).get("late"):
                    print(f"{self.path}: {record['test']}: missed a deadline first, then "
                          f"{record['outcome']}")
                self.tests[record["test"]] = record

    def names(self, *outcomes):
        return {name for name, test in self.tests.items() if test["outcome"] in outcomes}

    def count_tests(self, ran_elsewhere):
        missing = self.planned - set(self.tests)
        for name in sorted(self.names("failed")):
            print_failed(f"{name} in {self.path}", self.tests[name].get("reason", ""))
        for name in sorted(missing):
            print_failed(f"{name}: was not run to its end in {self.path}")
        return Count(len(self.names("passed")), len(self.names("failed")) + len(missing),
                     len(self.names("skipped") - ran_elsewhere))

    def count_programs(self):
        count = Count()
        for line in read(self.path / "programs").splitlines():
            name = line.split()[0]
            status = read(self.path / f"{name}.status").strip()
            result = {"0": "PASS", SKIP_STATUS: "SKIP"}.get(status, "FAIL")
            said = read(self.path / f"{name}.log")
            one = count_program(said, result)
            if one.failed:
                print_failed(f"{name}: exit {status or 'unknown'} in {self.path}", said)
            count += one
        return count

    def count_kernel(self):
        """A guest must come to its end, and its kernel must not have warned."""
        if not (self.path / "guest").exists():
            return Count()
        before, after = read(self.path / "tainted.before"), read(self.path / "tainted.after")
        if before and before == after:
            return Count(passed=1)
        print_failed(f"the kernel stayed sound in {self.path}", read(self.path / "dmesg.log"))
        return Count(failed=1)

    def count(self, ran_elsewhere):
        total = self.count_tests(ran_elsewhere) + self.count_programs() + self.count_kernel()
        if not total.passed + total.failed:
            print_failed(f"nothing was run in {self.path}")
            total.failed += 1
        print(f"{self.path}: {total}")
        return total


def count_runs(runs):
    """A test that ran anywhere is skipped nowhere, and counted as skipped once at most."""
    settled = set().union(*(run.names("passed", "failed") for run in runs))
    total = Count()
    for run in runs:
        for name in sorted(run.names("skipped") - settled):
            print(f"skipped: {name}: {run.tests[name]['reason']}")
        total += run.count(settled)
        elsewhere = run.names("skipped") & settled
        if elsewhere:
            print(f"  {len(elsewhere)} more were skipped here and have run elsewhere")
        settled |= run.names("skipped")
    return total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--units", type=pathlib.Path, help="with these unit tests")
    parser.add_argument("runs", nargs="+", type=Run, metavar="RUN")
    args = parser.parse_args()
    units = count_units(args.units) if args.units else Count()
    total = units + count_runs(args.runs)
    print(total)
    return 0 if total.passed and not total.failed else 1


if __name__ == "__main__":
    sys.exit(main())
