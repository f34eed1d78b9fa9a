# SPDX-License-Identifier: GPL-2.0-or-later
"""Count what the tests recorded: python3 -m lab.summary DIRECTORY PYTEST-XML

DIRECTORY is searched for the .trs and .log files of automake's test driver, whose logs hold
cmocka's TAP output. The last line printed is the sum; the exit status is 0 only if something ran
and nothing failed.
"""

import pathlib
import re
import sys
import xml.etree.ElementTree

PLAN = re.compile(r"^1\.\.(\d+)")
RESULT = re.compile(r"^(not )?ok\b(.*)")
DRIVER_RESULT = re.compile(r"^:global-test-result: *(\w+)", re.MULTILINE)


class Count:
    def __init__(self, passed=0, failed=0, skipped=0):
        self.passed, self.failed, self.skipped = passed, failed, skipped

    def __add__(self, other):
        return Count(self.passed + other.passed, self.failed + other.failed,
                     self.skipped + other.skipped)

    def __str__(self):
        text = f"{self.passed} passed, {self.failed} failed"
        return text + (f", {self.skipped} skipped" if self.skipped else "")


def count_tap(text):
    """A test that was planned and never reported, as after a crash, has failed."""
    count, planned = Count(), 0
    for line in text.splitlines():
        if plan := PLAN.match(line):
            planned += int(plan[1])
        elif result := RESULT.match(line):
            if result[1]:
                count.failed += 1
            elif "# skip" in result[2].lower():
                count.skipped += 1
            else:
                count.passed += 1
    reported = count.passed + count.failed + count.skipped
    count.failed += max(0, planned - reported)
    return count


def count_program(trs):
    """One test program. It may fail as a whole although each of its tests passed (a leak)."""
    found = DRIVER_RESULT.search(trs.read_text())
    result = found[1] if found else "ERROR"
    log = trs.with_suffix(".log")
    count = count_tap(log.read_text(errors="replace") if log.exists() else "")
    if result not in ("PASS", "SKIP") and not count.failed:
        count.failed += 1
    elif result == "SKIP" and not count.skipped:
        count.skipped += 1
    elif result == "PASS" and not count.passed + count.skipped:
        count.passed += 1
    return count


def count_pytest(path):
    if not path.exists():
        print(f"{path.name}: pytest did not finish", file=sys.stderr)
        return Count(failed=1)
    count = Count()
    for suite in xml.etree.ElementTree.parse(path).getroot().iter("testsuite"):
        total, skipped = int(suite.get("tests")), int(suite.get("skipped"))
        failed = int(suite.get("failures")) + int(suite.get("errors"))
        count += Count(max(0, total - failed - skipped), failed, skipped)
    return count


def main(directory, pytest_xml):
    programs = sorted(pathlib.Path(directory).rglob("*.trs"))
    units = sum((count_program(trs) for trs in programs), Count())
    integration = count_pytest(pathlib.Path(pytest_xml))
    print(f"unit tests: {units} in {len(programs)} programs")
    print(f"integration tests: {integration}")
    total = units + integration
    print(total)
    ran = units.passed and integration.passed
    return 0 if ran and not total.failed else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
