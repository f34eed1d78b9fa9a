# SPDX-License-Identifier: GPL-2.0-or-later
"""pytest plugin: -p lab.record --record FILE

Appends one JSON line with the names of the tests that are to run, and one for each test that has
run, at once: whoever counts sees what is missing after a crash. What a failed test has to say is
printed when it fails, for the same reason.

python3 -m lab.record FILE names the tests that failed and only because the lab could not do
something in time (LabError): on an emulated machine that is worth a second try. A test that saw
something wrong is not named.
"""

import json
import pathlib
import sys

import pytest

from .system import LabError

# The worst that a phase of a test says is what became of the test.
ORDER = ("passed", "skipped", "failed")


def pytest_addoption(parser):
    parser.addoption("--record", metavar="FILE", required=True, help="where to record the tests")


# Of what a failed test has to say, so many last lines are recorded.
LINES = 12


def reason(report):
    """Why it was skipped: the last part of (file, line, "Skipped: reason"). Why it failed."""
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2]
    return "\n".join(report.longreprtext.splitlines()[-LINES:])


class Recorder:
    def __init__(self, path, terminal):
        self.file = open(path, "a", buffering=1)
        self.terminal = terminal
        self.phases = {}

    def write(self, **fields):
        self.file.write(json.dumps(fields) + "\n")

    def print_failure(self, report, when):
        self.terminal.ensure_newline()
        self.terminal.section(f"{report.nodeid} ({when})", sep="_", red=True)
        report.toterminal(self.terminal._tw)
        for title, text in report.sections:
            self.terminal.section(title, sep="-")
            self.terminal.line(text)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, call):
        outcome = yield
        outcome.get_result().in_time = not (call.excinfo and call.excinfo.errisinstance(LabError))

    def pytest_collectreport(self, report):
        """A file that cannot be read is a test that failed."""
        if report.failed:
            self.write(test=report.nodeid, outcome="failed", reason=reason(report))
            self.print_failure(report, "collection")

    def pytest_collection_finish(self, session):
        self.write(planned=[item.nodeid for item in session.items])

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report):
        phases = self.phases.setdefault(report.nodeid, [])
        phases.append(report)
        if report.failed:
            self.print_failure(report, report.when)
        if report.when == "teardown":
            worst = max(phases, key=lambda phase: ORDER.index(phase.outcome))
            late = any(phase.failed for phase in phases) and \
                all(not phase.in_time for phase in phases if phase.failed)
            self.write(test=report.nodeid, outcome=worst.outcome, reason=reason(worst), late=late,
                       seconds=round(sum(phase.duration for phase in phases), 2))
            del self.phases[report.nodeid]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session):
        """The reports were printed already."""
        session.config.option.tbstyle = "no"


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    terminal = config.pluginmanager.getplugin("terminalreporter")
    config.pluginmanager.register(Recorder(config.getoption("record"), terminal), "lab-recorder")


def late(path):
    """Of those that ran twice the second time counts."""
    last = {}
    for line in pathlib.Path(path).read_text().splitlines():
        record = json.loads(line)
        if "test" in record:
            last[record["test"]] = record
    return [name for name, record in last.items() if record.get("late")]


if __name__ == "__main__":
    for test in late(sys.argv[1]):
        print(test)
